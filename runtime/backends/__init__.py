"""Backends by name. Each module is imported only when its backend is asked for."""

from __future__ import annotations

import importlib
from typing import NamedTuple, get_args

from edgeunet.bundle.bundle import Bundle
from edgeunet.bundle.manifest import Exported, Precision
from edgeunet.errors import UnknownNameError, UsageError

from ..options import DEFAULTS, LoadOptions
from .base import Backend, Net


class _Kind(NamedTuple):
    """opener: a function of (bundle, options) in `module`, which raises if an extra is missing.

    takes: fields of `LoadOptions` that it uses. precisions: those that it can compute in.
    """

    module: str
    opener: str
    takes: tuple[str, ...] = ()
    precisions: tuple[Precision, ...] = get_args(Exported)


_KINDS = {
    "auto": _Kind(
        "fallback",
        "open_automatic",
        ("processor", "device", "dla", "threads", "trust_engines"),
        get_args(Precision),
    ),
    "onnxruntime": _Kind("ort", "open_onnxruntime", ("provider", "device", "threads")),
    "openvino": _Kind(
        "openvino", "open_openvino", ("processor", "device", "threads"), get_args(Precision)
    ),
    "pytorch": _Kind("pytorch", "open_pytorch", precisions=get_args(Precision)),
    "rknn": _Kind("rknn", "open_rknn", ("device",), ("fp16", "int8")),
    "rtx": _Kind("tensorrt", "open_rtx", ("device", "dla", "trust_engines")),
    "tensorrt": _Kind("tensorrt", "open_tensorrt", ("device", "dla", "trust_engines")),
}
_BACKEND_OPTIONS = ("provider", "processor", "device", "dla", "threads", "trust_engines")


def list_backends() -> list[str]:
    """Names that `create_backend` takes besides "auto", sorted.

    Example:
        >>> from edgeunet.runtime.backends import list_backends
        >>> list_backends()
        ['onnxruntime', 'openvino', 'pytorch', 'rknn', 'rtx', 'tensorrt']
    """
    return sorted(_KINDS.keys() - {"auto"})


def create_backend(name: str, bundle: Bundle, options: LoadOptions = DEFAULTS) -> Backend:
    """Open a backend for a bundle; "auto" opens the fastest one on this machine.

    Args:
        options: only `provider`, `processor`, `device`, `dla`, `threads` and `trust_engines` are
            used.

    Raises:
        UnknownNameError: no such backend. MissingDependencyError: its extra is not installed.
        UsageError: an option that the backend does not have, or the bundle's precision.

    Example:
        >>> from edgeunet.runtime import backends, open_bundle
        >>> backends.create_backend("onnxruntime", open_bundle(bundle)).name
        'onnxruntime'
    """
    check_kind(name, bundle, options)
    module, opener = _KINDS[name][:2]
    backend: Backend = getattr(importlib.import_module(f"{__name__}.{module}"), opener)(
        bundle, options
    )
    return backend


def check_kind(name: str, bundle: Bundle, options: LoadOptions) -> None:
    """Raise as `create_backend` if no such backend takes the options and the bundle's precision."""
    if name not in _KINDS:
        raise UnknownNameError("backend", name, [*list_backends(), "auto"])
    _, _, takes, precisions = _KINDS[name]
    unknown = [
        each
        for each in _BACKEND_OPTIONS
        if getattr(options, each) != getattr(DEFAULTS, each) and each not in takes
    ]
    if unknown:
        advice = " Name the backend that you mean." if name == "auto" else ""
        raise UsageError(
            f"backend {name} has no {' and no '.join(unknown)}; it takes "
            f"{', '.join(takes) or 'no options'}.{advice}"
        )
    precision = bundle.manifest.precision
    if precision not in precisions:
        able = [each for each in list_backends() if precision in _KINDS[each].precisions]
        raise UsageError(
            f"backend {name} does not compute in {precision.upper()}; {' and '.join(able)} can. "
            "Name one of them, or another precision."
        )


def precisions_of(name: str, options: LoadOptions = DEFAULTS) -> tuple[Precision, ...]:
    """What a backend can compute in on this machine, the closest to the reference first.

    Example:
        >>> from edgeunet.runtime.backends import precisions_of
        >>> precisions_of("onnxruntime")
        ('fp32', 'fp16', 'int8')
    """
    if name == "auto":
        from .openvino_library import openvino_precisions

        able = {*_KINDS["onnxruntime"].precisions, *openvino_precisions(options)}
        return tuple(each for each in get_args(Precision) if each in able)
    if name == "openvino":
        from .openvino_library import find_device

        return find_device(options).precisions
    if options.provider not in (None, "cpu"):
        from .providers import find_provider

        return tuple(find_provider(options.provider).graphs)
    return _KINDS[name].precisions


__all__ = ["Backend", "Net", "check_kind", "create_backend", "list_backends", "precisions_of"]
