"""edgeunet: U-Nets from a checkpoint to INT8 video segmentation at the edge."""

from __future__ import annotations

import importlib
import os
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from edgeunet.errors import EdgeUNetError
    from edgeunet.exporting import ExportOptions, export, export_bundle
    from edgeunet.hub import from_hub, push_to_hub
    from edgeunet.models import create_model, list_models
    from edgeunet.runtime import Result, Segmenter, Tiling, load

__version__ = "0.1.0"

# ONNX Runtime reports to Microsoft what it runs, from 1.29 on under Linux too. It reads this when
# it is imported; whoever sets it to 0 has reports.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

# Public name -> module, imported on first use (PEP 562). `import edgeunet` loads nothing, and a
# device that only runs bundles never loads torch.
_EXPORTS = {
    "EdgeUNetError": "edgeunet.errors",
    "Result": "edgeunet.runtime",
    "Segmenter": "edgeunet.runtime",
    "Tiling": "edgeunet.runtime",
    "create_model": "edgeunet.models",
    "ExportOptions": "edgeunet.exporting",
    "export": "edgeunet.exporting",
    "export_bundle": "edgeunet.exporting",
    "from_hub": "edgeunet.hub",
    "list_models": "edgeunet.models",
    "load": "edgeunet.runtime",
    "push_to_hub": "edgeunet.hub",
}

__all__ = [
    "EdgeUNetError",
    "ExportOptions",
    "Result",
    "Segmenter",
    "Tiling",
    "create_model",
    "export",
    "export_bundle",
    "from_hub",
    "list_models",
    "load",
    "push_to_hub",
]


def __getattr__(name: str) -> Any:
    if name not in _EXPORTS:
        raise AttributeError(f"module 'edgeunet' has no attribute {name!r}")
    return getattr(importlib.import_module(_EXPORTS[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_EXPORTS])
