"""Backends by name. Each module is imported only when its backend is asked for."""

from __future__ import annotations

import importlib
from typing import Any

from edgeunet.errors import UnknownNameError

from ..bundle import Bundle
from .automatic import open_automatic
from .base import Backend, NetOutputs, Result, Timings

# Name -> (module, class). Modules import what they need at their top: a missing extra shows here.
_BACKENDS = {
    "onnxruntime": ("ort", "OnnxRuntimeBackend"),
    "pytorch": ("pytorch", "PyTorchBackend"),
    "rtx": ("rtx", "RtxBackend"),
    "tensorrt": ("trt", "TensorRTBackend"),
}


def list_backends() -> list[str]:
    """Names that `create_backend` takes beside "auto", sorted."""
    return sorted(_BACKENDS)


def create_backend(name: str, bundle: Bundle, **arguments: Any) -> Backend:
    """Backend of that name for a bundle; "auto" is the one that fits the machine best.

    Args:
        arguments: those of the backend, see its class; "auto" takes none.

    Raises:
        UnknownNameError: no such backend. MissingDependencyError: its extra is not installed.
    """
    if name == "auto":
        return open_automatic(bundle, **arguments)
    if name not in _BACKENDS:
        raise UnknownNameError("backend", name, [*_BACKENDS, "auto"])
    module, cls = _BACKENDS[name]
    backend_class = getattr(importlib.import_module(f"{__name__}.{module}"), cls)
    backend: Backend = backend_class(bundle, **arguments)
    return backend


__all__ = ["Backend", "NetOutputs", "Result", "Timings", "create_backend", "list_backends"]
