"""From a checkpoint to a bundle: trace -> half | calibrate -> quantize -> bundle."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from edgeunet.data.preparation import Preparation

    from .options import ExportOptions
    from .pipeline import export, export_bundle

# Resolved on first use (PEP 562): `export.lint` needs no torch.
_EXPORTS = {
    "ExportOptions": ".options",
    "Preparation": "edgeunet.data.preparation",
    "export": ".pipeline",
    "export_bundle": ".pipeline",
}

__all__ = ["ExportOptions", "Preparation", "export", "export_bundle"]


def __getattr__(name: str) -> Any:
    if name not in _EXPORTS:
        raise AttributeError(f"module 'edgeunet.exporting' has no attribute {name!r}")
    return getattr(importlib.import_module(_EXPORTS[name], __name__), name)
