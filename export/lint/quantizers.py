"""QuantizeLinear and DequantizeLinear: zero points, scales and axes; and what rules ask of them."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import onnx_ir as ir

from ..graphs.passes.graph import attribute, constant, of_type, operand, producer
from .rule import TENSORRT, Broken, Rule, Target

Q = "QuantizeLinear"
DQ = "DequantizeLinear"

# Types that TensorRT has no quantization for.
_UNFIT = (ir.DataType.UINT8, ir.DataType.UINT16, ir.DataType.INT16, ir.DataType.UINT4)
_NOT_RTX: tuple[Target, ...] = ("trt8.6", "trt10", "trt11")
_HALVES = (ir.DataType.FLOAT16, ir.DataType.BFLOAT16)
# Axis of the output channels in the weights.
_WEIGHT_AXIS = {"Conv": 0, "ConvTranspose": 1}


def element_type(value: ir.Value | None) -> ir.DataType:
    """Type of a tensor's elements; UNDEFINED if it is not known."""
    return ir.DataType.UNDEFINED if value is None or value.dtype is None else value.dtype


def dequantizer(value: ir.Value | None) -> ir.Node | None:
    """The DequantizeLinear that puts out a value, None if something else does."""
    return producer(value, DQ)


def quantizers(value: ir.Value) -> list[ir.Node]:
    """The QuantizeLinear nodes that read a value."""
    return [node for node in value.consumers() if node.op_type == Q]


def is_per_channel(pair: ir.Node) -> bool:
    """Whether a Q or DQ has more than one scale."""
    scale = operand(pair, 1)
    sizes = () if scale is None or scale.shape is None else tuple(scale.shape)
    return math.prod(size for size in sizes if isinstance(size, int) and size) > 1


def behind_pairs(value: ir.Value | None) -> ir.Value | None:
    """The value as it was before the Q/DQ pairs that it went through."""
    while (node := producer(value, Q, DQ)) is not None:
        value = operand(node, 0)
    return value


def is_weight(value: ir.Value | None) -> bool:
    """Whether a value is a constant, or one that went through Q/DQ."""
    source = behind_pairs(value)
    return source is not None and source.const_value is not None


def parameters(pair: ir.Node) -> tuple[bytes, bytes]:
    """Scale and zero point of a Q or DQ, for comparison; a missing zero point is 0."""
    scale, zero = constant(operand(pair, 1)), constant(operand(pair, 2))
    return (
        b"" if scale is None else scale.astype(np.float64).tobytes(),
        b"" if zero is None or not zero.any() else zero.astype(np.int64).tobytes(),
    )


def three_inputs(graph: ir.Graph) -> Broken:
    """8.x: "This version of TensorRT requires 3 inputs for the DequantizeLinear operator"."""
    for node in of_type(graph, Q, DQ):
        if not operand(node, 2):
            yield (
                node,
                "leaves its zero point out; TensorRT 8.x needs all three inputs. "
                "Write an INT8 zero point of 0.",
            )


def implicit_type(graph: ir.Graph) -> Broken:
    """Without zero point and `output_dtype` ONNX means UINT8, and TensorRT takes INT8.

    The parser says nothing, and everything above 127 saturates.
    """
    for node in of_type(graph, Q):
        if not operand(node, 2) and not attribute(node, "output_dtype", 0):
            yield (
                node,
                "leaves its zero point out, which means UINT8 to ONNX and INT8 to TensorRT. "
                "Write an INT8 zero point of 0.",
            )


def zero_point(graph: ir.Graph) -> Broken:
    """TensorRT quantizes symmetrically; all its parsers refuse another zero point."""
    for node in of_type(graph, Q, DQ):
        values = constant(operand(node, 2))
        if values is not None and np.asarray(values).astype(np.float64).any():
            yield (
                node,
                "its zero point is not 0; TensorRT is symmetric. Quantize activations and "
                "weights symmetrically.",
            )


def signed_type(graph: ir.Graph) -> Broken:
    """8.x refuses UINT8; newer parsers and TensorRT-RTX read it as INT8, with wrong results."""
    for node in of_type(graph, Q, DQ):
        if node.op_type == DQ and producer(operand(node, 0), Q) is not None:
            continue  # reported at the Q
        kind = element_type(operand(node, 2 if node.op_type == Q else 0))
        if kind in _UNFIT:
            yield (
                node,
                f"quantizes to {kind.name}, which TensorRT refuses or takes for INT8. "
                "Quantize to INT8 with a zero point of 0.",
            )


def scale(graph: ir.Graph) -> Broken:
    """All parsers: "Scale coefficients must all be positive"."""
    for node in of_type(graph, Q, DQ):
        values = constant(operand(node, 1))
        if values is None:
            continue
        values = values.astype(np.float64)
        if not (np.isfinite(values) & (values > 0)).all():
            yield (
                node,
                f"a scale is {values.min():g}, expected a positive, finite one. "
                "Calibrate anew, or give dead channels a tiny scale.",
            )


def float32_scale(graph: ir.Graph) -> Broken:
    """8.x's QuantizeLinear takes no FP16, and its parser reads the bits of the scales as FP32."""
    for node, kind in _half_scales(graph):
        yield (
            node,
            f"its scale is {kind}; TensorRT 8.x needs FLOAT. Keep the Q/DQ graph in FP32 and set "
            "the FP16 flag of the builder.",
        )


def half_opset(graph: ir.Graph) -> Broken:
    """Before opset 19 the standard has only FP32 scales, and ONNX Runtime refuses the file.

    TensorRT's parsers of 10 and later take FP16 scales whatever the opset says.
    """
    version = graph.opset_imports[""]
    for node, kind in _half_scales(graph) if version < 19 else ():
        yield (
            node,
            f"its scale is {kind}, which Q/DQ takes from opset 19 on; the file has {version}. "
            "Convert it to opset 19.",
        )


def axis(graph: ir.Graph) -> Broken:
    """Without `axis` ONNX means 1 and TensorRT's parsers take 0: wrong scales if both fit."""
    for node in of_type(graph, Q, DQ):
        if is_per_channel(node) and attribute(node, "axis", None) is None:
            yield (
                node,
                "is per channel and names no axis, which means 1 to ONNX and 0 to TensorRT. "
                "Write the axis.",
            )


def weight_axis(graph: ir.Graph) -> Broken:
    """INT8 kernels need weights whose scales run along the output channels.

    TensorRT documents no others. TensorRT-RTX 1.7 builds them nevertheless.
    """
    for node in of_type(graph, *_WEIGHT_AXIS):
        pair = dequantizer(operand(node, 1))
        if pair is None or not is_per_channel(pair):
            continue
        found, wanted = attribute(pair, "axis", None), _WEIGHT_AXIS[node.op_type]
        weight = operand(pair, 0)
        rank = 4 if weight is None or not weight.shape else len(weight.shape)
        if found is not None and found % rank != wanted:
            yield (
                pair,
                f"scales the weights of a {node.op_type} along axis {found}; its output channels "
                f"are axis {wanted}. Quantize per output channel.",
            )


def per_channel_activation(graph: ir.Graph) -> Broken:
    """TensorRT's parser: "Activations-quantization does not support per-axis quantization".

    TensorRT-RTX 1.7 builds it nevertheless.
    """
    for node in of_type(graph, Q):
        if is_per_channel(node) and not is_weight(operand(node, 0)):
            yield (
                node,
                "quantizes an activation per channel; TensorRT takes one scale for each "
                "activation. Quantize activations per tensor.",
            )


def int32_bias(graph: ir.Graph) -> Broken:
    """TensorRT: "only activation types allowed as input to this layer" (ORT's tools do this)."""
    for node in of_type(graph, DQ):
        if element_type(operand(node, 0)) == ir.DataType.INT32:
            yield (
                node,
                "dequantizes INT32, as ONNX Runtime's tools do with biases; TensorRT refuses. "
                "Keep biases float (QuantizeBias=False).",
            )


def _half_scales(graph: ir.Graph) -> Iterator[tuple[ir.Node, str]]:
    """Each Q and DQ whose scale has 16 bits, and the name of its type."""
    for node in of_type(graph, Q, DQ):
        kind = element_type(operand(node, 1))
        if kind in _HALVES:
            yield node, kind.name


RULES = (
    Rule("three-inputs", "error", ("trt8.6",), three_inputs),
    Rule("implicit-uint8", "error", ("trt10", "trt11", "rtx"), implicit_type),
    Rule("zero-point", "error", TENSORRT, zero_point),
    Rule("signed", "error", TENSORRT, signed_type),
    Rule("scale", "error", TENSORRT, scale),
    Rule("float32-scale", "error", ("trt8.6",), float32_scale),
    Rule("half-opset", "error", ("ort-cpu",), half_opset),
    Rule("axis", "error", TENSORRT, axis),
    Rule("weight-axis", "error", _NOT_RTX, weight_axis),
    Rule("weight-axis", "warning", ("rtx",), weight_axis),
    Rule("per-channel-activation", "error", _NOT_RTX, per_channel_activation),
    Rule("per-channel-activation", "warning", ("rtx",), per_channel_activation),
    Rule("int32-bias", "error", TENSORRT, int32_bias),
)
