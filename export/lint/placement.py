"""Places of Q/DQ pairs that keep TensorRT from INT8, or cost it requantizing."""

from __future__ import annotations

import onnx_ir as ir

from ..graphs.passes.graph import attribute, of_type, operand, producer
from .quantizers import behind_pairs, dequantizer, is_weight, parameters, quantizers
from .rule import EVERY, TENSORRT, Broken, Rule

# Operators whose output TensorRT adds a residual to in the same kernel.
_ACCUMULATING = ("Conv", "ConvTranspose", "Gemm", "MatMul")


def resize_input(graph: ir.Graph) -> Broken:
    """TensorRT: the pair belongs behind the Resize, where the convolution that reads it uses it."""
    for node in of_type(graph, "Resize"):
        if dequantizer(operand(node, 0)) is not None:
            yield (
                node,
                "has Q/DQ in front of it. Resize in float and quantize behind: "
                "Resize -> Q/DQ -> Conv.",
            )


def concat_scales(graph: ir.Graph) -> Broken:
    """TensorRT requantizes each input with another scale; hoisted Q/DQ cost 30 % in #4366."""
    for node in of_type(graph, "Concat"):
        pairs = [dequantizer(value) for value in node.inputs if not is_weight(value)]
        if not any(pairs):
            continue
        outputs = quantizers(node.outputs[0])
        scales = {pair and parameters(pair) for pair in (*pairs, *outputs)}
        if len(scales) > 1:
            came = "some inputs in float" if None in scales else f"{len(scales)} different scales"
            yield (
                node,
                f"joins {came}, which costs requantizing. Give all its inputs and its output "
                "one scale.",
            )


def residual(graph: ir.Graph) -> Broken:
    """TensorRT: an Add with a float branch runs in float, and so does all that it fuses with.

    A convolution's own output may be float: TensorRT fuses it with the Add, and only the other
    branch needs a pair (NVIDIA, "Quantize the residual input in skip connections").
    """
    for node in of_type(graph, "Add"):
        values = [value for value in node.inputs if not is_weight(value)]
        if len(values) != 2 or values[0] is values[1]:
            continue
        floats = [value for value in values if dequantizer(value) is None]
        if len(floats) == 1 and producer(floats[0], *_ACCUMULATING) is None:
            yield (
                node,
                "adds a quantized and a float tensor, and runs in float. Quantize both branches.",
            )


def silu(graph: ir.Graph) -> Broken:
    """TensorRT fuses x * Sigmoid(x) only if no pair stands inside; Sigmoid gains nothing."""
    for node in of_type(graph, "Sigmoid"):
        if not _is_silu(graph, node):
            continue
        outside = dequantizer(operand(node, 0)), *quantizers(node.outputs[0])
        if any(outside):
            yield (
                node,
                "is the Sigmoid of a SiLU and has Q/DQ. Keep it float, and quantize "
                "behind the Mul.",
            )


def conv_transpose(graph: ir.Graph) -> Broken:
    """TensorRT: slower than FP16 or invalid (#1699, #2280, #4366); ONNX Runtime has no kernel."""
    for node in of_type(graph, "ConvTranspose"):
        if dequantizer(operand(node, 0)) is None:
            continue
        two = (2, 2)
        fits = attribute(node, "strides", ()) == two == attribute(node, "kernel_shape", two)
        yield (
            node,
            "is a ConvTranspose in INT8, which has slow kernels or none. "
            + ("Write it as" if fits else "Keep it float, or, with 2x2 and stride 2, write")
            + " a 1x1 Conv and DepthToSpace, which is the same.",
        )


def one_sided(graph: ir.Graph) -> Broken:
    """All: INT8 kernels need data and weights quantized; a pair on one of them only rounds."""
    for node in of_type(graph, "Conv"):
        data, weights = (dequantizer(operand(node, index)) for index in (0, 1))
        if (data is None) != (weights is None):
            lacking = "data" if data is None else "weights"
            yield (
                node,
                f"has no Q/DQ on its {lacking}, so it runs in float and the other pair only "
                "rounds. Quantize both or neither.",
            )


def _is_silu(graph: ir.Graph, sigmoid: ir.Node) -> bool:
    """Whether the result is multiplied with the Sigmoid's own input."""
    source, result = behind_pairs(operand(sigmoid, 0)), sigmoid.outputs[0]
    return any(
        {behind_pairs(value) for value in node.inputs} == {source, result}
        for node in of_type(graph, "Mul")
    )


RULES = (
    Rule("resize-input", "warning", TENSORRT, resize_input),
    Rule("concat-scales", "warning", TENSORRT, concat_scales),
    Rule("residual", "warning", TENSORRT, residual),
    Rule("silu", "warning", TENSORRT, silu),
    Rule("int8-conv-transpose", "warning", EVERY, conv_transpose),
    Rule("one-sided", "warning", EVERY, one_sided),
)
