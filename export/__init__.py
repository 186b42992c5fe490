"""From a checkpoint to a bundle: trace -> half | calibrate -> quantize -> bundle."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from edgeunet.data.preparation import Preparation

    from .graphs.pixels import PixelsForm, write_pixels
    from .options import ExportOptions
    from .pipeline import export, export_bundle

# Resolved on first use (PEP 562): `export.lint` needs no torch.
_EXPORTS = {
    "ExportOptions": ".options",
    "PixelsForm": ".graphs.pixels",
    "Preparation": "edgeunet.data.preparation",
    "export": ".pipeline",
    "export_bundle": ".pipeline",
    "write_pixels": ".graphs.pixels",
}

__all__ = [
    "ExportOptions",
    "PixelsForm",
    "Preparation",
    "export",
    "export_bundle",
    "write_pixels",
]


def __getattr__(name: str) -> Any:
    if name not in _EXPORTS:
        raise AttributeError(f"module 'edgeunet.exporting' has no attribute {name!r}")
    return getattr(importlib.import_module(_EXPORTS[name], __name__), name)
