"""What computes the stages of a comparison: graphs of the bundle on the backend that is named."""

from __future__ import annotations

from contextlib import ExitStack
from typing import get_args

from ..bundle.bundle import Bundle
from ..bundle.manifest import Precision
from ..extras import is_installed
from ..runtime.backends import Backend, check_kind, create_backend, precisions_of
from ..runtime.backends.ort import open_flavour
from ..runtime.backends.placement import Placement
from ..runtime.options import LoadOptions
from .pixels import FLAVOURS

_ONNX_RUNTIME = ("auto", "onnxruntime")
_SIMULATED = ("trt int8", "trt int8.fp16", "openvino int8", "qnn int8")


def open_stages(
    bundle: Bundle, backend: str, options: LoadOptions, stack: ExitStack, simulate: bool
) -> dict[str, Backend]:
    """Backend by stage, the bundle's own precision last.

    ONNX Runtime on the CPU and OpenVINO have a stage for each closer precision that they can run
    the bundle in, others have one.

    Args:
        backend, options, simulate: see `measure`. stack: closes the backends.
    """
    precision = bundle.manifest.precision
    if not is_on_onnx_runtime(backend, options):
        stages = _closer(bundle, options) if backend == "openvino" else []
        return {
            each: stack.enter_context(create_backend(backend, bundle.at(each), options))
            for each in (*stages, precision)
        }
    check_kind("onnxruntime", bundle, options)
    Placement.of(bundle, options)  # refuses a device
    names = ["fp32"]
    if precision != "fp32":
        names.append("fp16")
    if precision == "int8":
        names += [*(_SIMULATED if simulate else ()), "int8"]
    rewritten = {"trt int8.fp16": _in_fp32} if is_installed("onnx") else {}
    return {
        name: stack.enter_context(
            open_flavour(
                bundle, FLAVOURS[name], threads=options.threads, rewritten=rewritten.get(name)
            )
        )
        for name in names
    }


def is_on_onnx_runtime(backend: str, options: LoadOptions) -> bool:
    """Whether there is a stage for each graph, on ONNX Runtime's own CPU."""
    return backend in _ONNX_RUNTIME and options.provider in (None, "cpu")


def _closer(bundle: Bundle, options: LoadOptions) -> list[Precision]:
    """Precisions of OpenVINO here that are closer to the reference than the bundle's."""
    order = get_args(Precision)
    closer = order[: order.index(bundle.manifest.precision)]
    return [
        each
        for each in precisions_of("openvino", options)
        if each in closer and (each == "bf16" or each in bundle.manifest.flavours)
    ]


def _in_fp32(content: bytes) -> bytes:
    from .simulated import in_fp32  # onnx, which parity does without elsewhere

    return in_fp32(content)
