"""Lets torchvision load beside torch's CPU build, which `make setup` installs.

PyPI's torchvision is built for CUDA, so that its operators do not load there, and torchvision stops
where it describes two of them. Nets for segmentation use neither. `make setup` copies this module
into the virtual environment, where a .pth file imports it whenever Python starts.
"""

from __future__ import annotations

import ctypes
import sys
from importlib.abc import MetaPathFinder
from importlib.machinery import PathFinder
from pathlib import Path
from typing import Any

_KEPT: list[Any] = []  # operators end with their library


class _Finder(MetaPathFinder):
    """Acts once, when torchvision is about to be imported; never finds anything itself."""

    def find_spec(self, fullname: str, path: Any, target: Any = None) -> None:
        if fullname == "torchvision":
            sys.meta_path.remove(self)
            spec = PathFinder.find_spec(fullname)
            if spec is not None and spec.origin is not None:
                _declare(Path(spec.origin).with_name("_C.so"))


def _declare(operators: Path) -> None:
    """Declare the two operators if the library that has them does not load."""
    import torch

    try:
        ctypes.CDLL(str(operators))
    except OSError:
        library = torch.library.Library("torchvision", "DEF")
        for name in ("nms", "qnms"):
            library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        _KEPT.append(library)


sys.meta_path.insert(0, _Finder())
