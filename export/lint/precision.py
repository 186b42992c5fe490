"""Types of tensors, and sizes of inputs: what builders make of them."""

from __future__ import annotations

from onnx import TensorProto

from .graph import Graph, attribute, operand
from .quantizers import DQ, Q, dequantizer
from .rule import STRONGLY_TYPED, TENSORRT, WEAKLY_TYPED, Broken, Rule


def half_graph(graph: Graph) -> Broken:
    """Weakly typed builders: "fp16 is not configured in the builder" unless the flag is set.

    With the flag, they choose the types anew anyway, from an already rounded graph.
    """
    casts = {attribute(node, "to", TensorProto.UNDEFINED) for node in graph.of_type("Cast")}
    if TensorProto.FLOAT16 in graph.constant_types() | casts:
        yield (
            "",
            "holds FP16, but the builder is weakly typed: it fails without its FP16 flag. "
            "Give it the FP32 graph and that flag (or, from 10.12 on, build strongly typed).",
        )


def float_around_int8(graph: Graph) -> Broken:
    """Strongly typed builders take the types of the graph: what is FP32 there, runs in FP32."""
    pairs = graph.of_type(Q, DQ)
    if any(graph.element_type(operand(node, 1)) == TensorProto.FLOAT for node in pairs):
        yield (
            "",
            "has INT8 over FP32, and a strongly typed builder runs all that is not INT8 in FP32. "
            "Give it Q/DQ over FP16 (opset 19).",
        )


def rtx_int8(graph: Graph) -> Broken:
    """TensorRT-RTX lists no INT8 convolution: the engine builds, and nothing says that it gains."""
    if any(dequantizer(graph, operand(node, 0)) for node in graph.of_type("Conv")):
        yield (
            "",
            "has INT8 convolutions, and TensorRT-RTX documents no kernel for them. "
            "Give it the FP16 graph, or measure both.",
        )


def uint8_input(graph: Graph) -> Broken:
    """TensorRT: UINT8 is for network inputs and outputs; all but a Cast is refused."""
    for name in graph.inputs:
        if graph.element_type(name) == TensorProto.UINT8:
            for node in graph.consumers(name):
                if node.op_type != "Cast":
                    yield (
                        node,
                        f"reads the UINT8 input {name}, which TensorRT wants cast first. "
                        "Put the Cast in front of everything else.",
                    )


def int64_output(graph: Graph) -> Broken:
    """TensorRT 8 hands INT64 out as INT32, 10 and later as INT64: buffers of twice the size."""
    for name in graph.outputs:
        if graph.element_type(name) == TensorProto.INT64:
            yield (
                name,
                "is an INT64 output, which TensorRT 8 makes INT32 and later ones keep. "
                "Cast it to INT32 or UINT8.",
            )


def dynamic_size(graph: Graph) -> Broken:
    """TensorRT wants a range for every dynamic size, tunes for one of it; the DLA takes none."""
    for name in graph.inputs:
        shape = graph.shape(name)
        if shape is not None and len(shape) == 4 and None in shape[2:]:
            yield (
                name,
                "has a dynamic height or width: it needs an optimization profile for them, and "
                "no DLA takes it. Export with a fixed size.",
            )


RULES = (
    Rule("half-graph", "warning", WEAKLY_TYPED, half_graph),
    Rule("float-around-int8", "warning", STRONGLY_TYPED, float_around_int8),
    Rule("rtx-int8", "warning", ("rtx",), rtx_int8),
    Rule("uint8-input", "error", TENSORRT, uint8_input),
    Rule("int64-output", "warning", TENSORRT, int64_output),
    Rule("dynamic-size", "warning", TENSORRT, dynamic_size),
)
