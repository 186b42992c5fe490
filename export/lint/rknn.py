"""What Rockchip's compiler leaves to the CPU, or computes in float: it is asked itself."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import onnx

from edgeunet.errors import ExportError, GraphError

from ..npu.one_image import inputs_of
from ..npu.rknn_graph import rknn_graph
from ..npu.rknn_toolkit import Layer, Toolkit
from .rule import Finding

SOC = "rk3588"
_IMAGE = 4  # sides
_HEAVY = ("Conv", "MatMul", "exMatMul", "Gemm")
_INTEGERS = ("INT4", "INT8", "INT16")


def findings(path: Path, report: Callable[[str], None]) -> Iterator[Finding]:
    """Compile a file, and read back what the compiler did.

    Raises:
        UsageError, ExportError: the compiler does not exist for this machine, or cannot be
        installed; see `ensure_environment`.

    Example:
        >>> path = bundle / "model.int8.qnn.onnx"
        >>> [found.rule for found in findings(path, print)]  # doctest: +SKIP
        ['in-float']
    """
    try:
        model = rknn_graph(onnx.load(path))
        channels = _channels(model.graph)
    except GraphError as error:
        yield Finding("input", "error", "", str(error))
        return
    with Toolkit(report) as toolkit, tempfile.TemporaryDirectory(prefix="edgeunet-rknn-") as name:
        graph = Path(name, "net.onnx")
        onnx.save(model, graph)
        try:
            layers = toolkit.build(graph, soc=SOC, mean=[0] * channels, std=[1] * channels)
        except ExportError as error:
            yield Finding("refused", "error", "", str(error))
            return
    quantized = any(node.op_type == "DequantizeLinear" for node in model.graph.node)
    for layer in layers:
        if not layer.is_end:
            yield from _judge(layer, quantized=quantized)
    if not quantized:
        yield Finding(
            "float-net",
            "warning",
            "",
            "is not quantized, so the NPU computes it in FP16. `edgeunet export "
            "--int8` writes such a graph, model.int8.qnn.onnx.",
        )


def _judge(layer: Layer, *, quantized: bool) -> Iterator[Finding]:
    _, _, node = layer.name.partition(":")
    heavy = layer.operator.startswith(_HEAVY)
    if layer.processor != "NPU":
        yield Finding(
            "on-cpu",
            "error" if heavy else "warning",
            node or layer.name,
            f"runs on the {layer.processor} ({layer.operator}, {layer.type}). Write it with other "
            "operators, or take it out of the net.",
        )
    elif quantized and heavy and layer.type not in _INTEGERS:
        yield Finding(
            "in-float",
            "warning",
            node or layer.name,
            f"is computed in {layer.type}: it reads or writes something without Q and DQ. Quantize "
            "both, if the masks allow it.",
        )


def _channels(graph: onnx.GraphProto) -> int:
    """Of the image that a graph takes, (1, C, H, W)."""
    shapes: list[list[int]] = [
        [side.dim_value for side in value.type.tensor_type.shape.dim] for value in inputs_of(graph)
    ]
    if len(shapes) != 1 or len(shapes[0]) != _IMAGE:
        raise GraphError(
            f"its inputs have the shapes {shapes}; expected one image (1, C, H, W). Export the net "
            "alone, without what prepares the image."
        )
    return shapes[0][1]
