"""Types of tensors and sizes of inputs that builders refuse, change or run slowly."""

from __future__ import annotations

import onnx_ir as ir

from ..graphs.passes.graph import attribute, of_type, operand
from .quantizers import DQ, Q, dequantizer, element_type
from .rule import STRONGLY_TYPED, TENSORRT, WEAKLY_TYPED, Broken, Rule


def half_graph(graph: ir.Graph) -> Broken:
    """Weakly typed builders: "fp16 is not configured in the builder" unless the flag is set.

    With the flag they choose the types themselves, from a graph that is already rounded.
    """
    casts = {attribute(node, "to", None) for node in of_type(graph, "Cast")}
    constants = (
        value for part in (graph, *graph.subgraphs()) for value in part.initializers.values()
    )
    if ir.DataType.FLOAT16 in casts | {value.dtype for value in constants}:
        yield (
            "",
            "holds FP16, but the builder is weakly typed: it fails without its FP16 flag. "
            "Give it the FP32 graph and that flag (or, from 10.12 on, build strongly typed).",
        )


def float_around_int8(graph: ir.Graph) -> Broken:
    """Strongly typed builders take the types of the graph: what is FP32 there, runs in FP32."""
    pairs = of_type(graph, Q, DQ)
    if any(element_type(operand(node, 1)) == ir.DataType.FLOAT for node in pairs):
        yield (
            "",
            "has INT8 over FP32, and a strongly typed builder runs all that is not INT8 in FP32. "
            "Give it Q/DQ over FP16 (opset 19).",
        )


def rtx_int8(graph: ir.Graph) -> Broken:
    """TensorRT-RTX lists no INT8 convolution: the engine builds, and nothing says that it gains."""
    if any(dequantizer(operand(node, 0)) for node in of_type(graph, "Conv")):
        yield (
            "",
            "has INT8 convolutions, and TensorRT-RTX documents no kernel for them. "
            "Give it the FP16 graph, or measure both.",
        )


def uint8_input(graph: ir.Graph) -> Broken:
    """TensorRT: UINT8 is for network inputs and outputs; all but a Cast is refused."""
    for value in fed(graph):
        if value.dtype == ir.DataType.UINT8:
            for node in value.consumers():
                if node.op_type != "Cast":
                    yield (
                        node,
                        f"reads the UINT8 input {value.name}, which TensorRT needs cast first. "
                        "Put the Cast in front of everything else.",
                    )


def uint8_inside(graph: ir.Graph) -> Broken:
    """TensorRT "does not support UINT8 types for intermediate tensors" (parser of RTX 1.7).

    The quantizers' own rules tell of uint8 that is quantized.
    """
    for node in graph.all_nodes():
        for value in node.outputs:
            quantizes = node.op_type.endswith("QuantizeLinear")
            if value.dtype == ir.DataType.UINT8 and value.consumers() and not quantizes:
                yield (
                    node,
                    f"makes the UINT8 tensor {value.name} for other nodes, and TensorRT takes "
                    "UINT8 as input and output of the graph alone. Cast to UINT8 last.",
                )


def int64_output(graph: ir.Graph) -> Broken:
    """TensorRT 8 hands INT64 out as INT32, 10 and later as INT64: buffers of twice the size."""
    for value in graph.outputs:
        if value.dtype == ir.DataType.INT64:
            yield (
                str(value.name),
                "is an INT64 output, which TensorRT 8 makes INT32 and later ones keep. "
                "Cast it to INT32 or UINT8.",
            )


def dynamic_size(graph: ir.Graph) -> Broken:
    """TensorRT needs a range for each dynamic size and tunes for one of it; the DLA takes none."""
    for value in fed(graph):
        shape = value.shape
        if shape is not None and len(shape) == 4 and any(shape.is_dynamic(axis) for axis in (2, 3)):
            yield (
                str(value.name),
                "has a dynamic height or width: it needs an optimization profile for them, and "
                "no DLA takes it. Export with a fixed size.",
            )


def fed(graph: ir.Graph) -> list[ir.Value]:
    """The inputs without initializers, which files before IR version 4 list as well."""
    return [value for value in graph.inputs if not value.is_initializer()]


RULES = (
    Rule("half-graph", "warning", WEAKLY_TYPED, half_graph),
    Rule("float-around-int8", "warning", STRONGLY_TYPED, float_around_int8),
    Rule("rtx-int8", "warning", ("rtx",), rtx_int8),
    Rule("uint8-input", "error", TENSORRT, uint8_input),
    Rule("uint8-inside", "error", TENSORRT, uint8_inside),
    Rule("int64-output", "warning", TENSORRT, int64_output),
    Rule("dynamic-size", "warning", TENSORRT, dynamic_size),
)
