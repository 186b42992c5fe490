"""Backends by name. Each module is imported only when its backend is asked for."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable
from typing import Any

from edgeunet.bundle.bundle import Bundle
from edgeunet.errors import UnknownNameError, UsageError

from .base import Backend, NetOutputs, Result, Timings
from .fallback import open_automatic

# Name -> (module, class). Modules import what they need at their top: a missing extra shows here.
_BACKENDS = {
    "onnxruntime": ("ort", "OnnxRuntimeBackend"),
    "pytorch": ("pytorch", "PyTorchBackend"),
    "rtx": ("tensorrt", "RtxBackend"),
    "tensorrt": ("tensorrt", "TensorRTBackend"),
}


def list_backends() -> list[str]:
    """Names that `create_backend` takes beside "auto", sorted."""
    return sorted(_BACKENDS)


def create_backend(name: str, bundle: Bundle, **arguments: Any) -> Backend:
    """Backend of that name for a bundle; "auto" is the one that fits the machine best.

    Args:
        arguments: those of the backend, see its class; "auto" takes those of `open_automatic`.

    Raises:
        UnknownNameError: no such backend. MissingDependencyError: its extra is not installed.
        UsageError: an argument that the backend does not take.
    """
    if name == "auto":
        _check_arguments(name, open_automatic, arguments)
        return open_automatic(bundle, **arguments)
    if name not in _BACKENDS:
        raise UnknownNameError("backend", name, [*_BACKENDS, "auto"])
    module, cls = _BACKENDS[name]
    backend_class = getattr(importlib.import_module(f"{__name__}.{module}"), cls)
    _check_arguments(name, backend_class, arguments)
    backend: Backend = backend_class(bundle, **arguments)
    return backend


def _check_arguments(name: str, opening: Callable[..., Backend], given: dict[str, Any]) -> None:
    """UsageError for arguments that a backend has not."""
    known = [each for each in inspect.signature(opening).parameters if each != "bundle"]
    unknown = [each for each in given if each not in known]
    if unknown:
        advice = " Name the backend that is meant." if name == "auto" else ""
        raise UsageError(
            f"backend {name} has no {' and no '.join(unknown)}; it takes "
            f"{', '.join(known) or 'no arguments'}.{advice}"
        )


__all__ = ["Backend", "NetOutputs", "Result", "Timings", "create_backend", "list_backends"]
