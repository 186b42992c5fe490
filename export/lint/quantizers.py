"""QuantizeLinear and DequantizeLinear themselves: zero points, scales, axes."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import onnx
from onnx import TensorProto

from .graph import Graph, attribute, operand, type_name
from .rule import TENSORRT, Broken, Rule, Target

# Types that TensorRT has no quantization for.
_UNFIT = (TensorProto.UINT8, TensorProto.UINT16, TensorProto.INT16, TensorProto.UINT4)
_NOT_RTX: tuple[Target, ...] = ("trt8.6", "trt10", "trt11")
_HALVES = (TensorProto.FLOAT16, TensorProto.BFLOAT16)
# Axis of the output channels in the weights.
_WEIGHT_AXIS = {"Conv": 0, "ConvTranspose": 1}


def three_inputs(graph: Graph) -> Broken:
    """8.x: "This version of TensorRT requires 3 inputs for the DequantizeLinear operator"."""
    for node in graph.of_type(Q, DQ):
        if not operand(node, 2):
            yield (
                node,
                "leaves its zero point out; TensorRT 8.x wants all three inputs. "
                "Write an INT8 zero point of 0.",
            )


def implicit_type(graph: Graph) -> Broken:
    """ONNX means UINT8 where neither zero point nor `output_dtype` tell; TensorRT takes INT8.

    The parser says nothing, and everything above 127 saturates.
    """
    for node in graph.of_type(Q):
        if not operand(node, 2) and not attribute(node, "output_dtype", 0):
            yield (
                node,
                "leaves its zero point out, which means UINT8 to ONNX and INT8 to TensorRT. "
                "Write an INT8 zero point of 0.",
            )


def zero_point(graph: Graph) -> Broken:
    """TensorRT quantizes symmetrically; all its parsers refuse another zero point."""
    for node in graph.of_type(Q, DQ):
        values = graph.constant(operand(node, 2))
        if values is not None and np.asarray(values).astype(np.float64).any():
            yield (
                node,
                "its zero point is not 0; TensorRT is symmetric. Quantize activations and "
                "weights symmetrically.",
            )


def signed_type(graph: Graph) -> Broken:
    """8.x refuses UINT8; newer parsers and TensorRT-RTX read it as INT8, with wrong results."""
    for node in graph.of_type(Q, DQ):
        if node.op_type == DQ:
            made = graph.producer(operand(node, 0))
            if made is not None and made.op_type == Q:
                continue  # told of there
        kind = graph.element_type(operand(node, 2 if node.op_type == Q else 0))
        if kind in _UNFIT:
            yield (
                node,
                f"quantizes to {type_name(kind)}, which TensorRT refuses or takes for INT8. "
                "Quantize to INT8 with a zero point of 0.",
            )


def scale(graph: Graph) -> Broken:
    """All parsers: "Scale coefficients must all be positive"."""
    for node in graph.of_type(Q, DQ):
        values = graph.constant(operand(node, 1))
        if values is None:
            continue
        values = values.astype(np.float64)
        if not (np.isfinite(values) & (values > 0)).all():
            yield (
                node,
                f"a scale is {values.min():g}; positive, finite ones are wanted. "
                "Calibrate anew, or give dead channels a tiny scale.",
            )


def float32_scale(graph: Graph) -> Broken:
    """8.x's QuantizeLinear takes no FP16, and its parser reads the bits of the scales as FP32."""
    for node, kind in _half_scales(graph):
        yield (
            node,
            f"its scale is {kind}; TensorRT 8.x wants FLOAT. Keep the Q/DQ graph in FP32 and set "
            "the FP16 flag of the builder.",
        )


def half_opset(graph: Graph) -> Broken:
    """Before opset 19 the standard has FP32 scales alone, and ONNX Runtime refuses the file.

    TensorRT's parsers of 10 and later take FP16 scales whatever the opset says.
    """
    for node, kind in _half_scales(graph) if graph.opset < 19 else ():
        yield (
            node,
            f"its scale is {kind}, which Q/DQ takes from opset 19 on; the file has {graph.opset}. "
            "Convert it to opset 19.",
        )


def axis(graph: Graph) -> Broken:
    """Without `axis` ONNX means 1 and TensorRT's parsers take 0: wrong scales where both fit."""
    for node in graph.of_type(Q, DQ):
        if is_per_channel(graph, node) and attribute(node, "axis", None) is None:
            yield (
                node,
                "is per channel and names no axis, which means 1 to ONNX and 0 to TensorRT. "
                "Write the axis.",
            )


def weight_axis(graph: Graph) -> Broken:
    """INT8 kernels want weights whose scales run along the output channels.

    TensorRT documents no others; TensorRT-RTX 1.7 builds them nevertheless.
    """
    for node in graph.of_type(*_WEIGHT_AXIS):
        pair = graph.producer(operand(node, 1))
        if pair is None or pair.op_type != DQ or not is_per_channel(graph, pair):
            continue
        found, wanted = attribute(pair, "axis", None), _WEIGHT_AXIS[node.op_type]
        rank = len(graph.shape(operand(pair, 0)) or (0,) * 4)
        if found is not None and found % rank != wanted:
            yield (
                pair,
                f"scales the weights of a {node.op_type} along axis {found}; its output channels "
                f"are axis {wanted}. Quantize per output channel.",
            )


def per_channel_activation(graph: Graph) -> Broken:
    """TensorRT's parser: "Activations-quantization does not support per-axis quantization".

    TensorRT-RTX 1.7 builds it nevertheless.
    """
    for node in graph.of_type(Q):
        if is_per_channel(graph, node) and not is_weight(graph, operand(node, 0)):
            yield (
                node,
                "quantizes an activation per channel; TensorRT takes one scale for each "
                "activation. Quantize activations per tensor.",
            )


def int32_bias(graph: Graph) -> Broken:
    """TensorRT: "only activation types allowed as input to this layer" (ORT's tools do this)."""
    for node in graph.of_type(DQ):
        if graph.element_type(operand(node, 0)) == TensorProto.INT32:
            yield (
                node,
                "dequantizes INT32, as ONNX Runtime's tools do with biases; TensorRT refuses. "
                "Keep biases float (QuantizeBias=False).",
            )


def _half_scales(graph: Graph) -> Iterator[tuple[onnx.NodeProto, str]]:
    """Each Q and DQ whose scale is of 16 bits, and its type's name."""
    for node in graph.of_type(Q, DQ):
        kind = graph.element_type(operand(node, 1))
        if kind in _HALVES:
            yield node, type_name(kind)


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

Q = "QuantizeLinear"
DQ = "DequantizeLinear"


def dequantizer(graph: Graph, name: str) -> onnx.NodeProto | None:
    """The DequantizeLinear that makes a tensor, None where something else does."""
    node = graph.producer(name)
    return node if node is not None and node.op_type == DQ else None


def quantizers(graph: Graph, name: str) -> tuple[onnx.NodeProto, ...]:
    """The QuantizeLinear nodes that read a tensor."""
    return tuple(node for node in graph.consumers(name) if node.op_type == Q)


def is_per_channel(graph: Graph, node: onnx.NodeProto) -> bool:
    """Whether a Q or DQ has more than one scale."""
    shape = graph.shape(operand(node, 1)) or ()
    return math.prod(size or 1 for size in shape) > 1


def is_weight(graph: Graph, name: str) -> bool:
    """Whether a tensor is a constant, or one that went through Q/DQ."""
    node = graph.producer(name)
    while node is not None and node.op_type in (Q, DQ):
        name = operand(node, 0)
        node = graph.producer(name)
    return graph.is_constant(name)


def behind_pairs(graph: Graph, name: str) -> str:
    """The tensor itself, before the Q/DQ that it went through."""
    node = graph.producer(name)
    while node is not None and node.op_type in (Q, DQ):
        name = operand(node, 0)
        node = graph.producer(name)
    return name


def parameters(graph: Graph, node: onnx.NodeProto) -> tuple[bytes, bytes]:
    """Scale and zero point of a Q or DQ, for comparison; a missing zero point is 0."""
    scale, zero = graph.constant(operand(node, 1)), graph.constant(operand(node, 2))
    return (
        b"" if scale is None else scale.astype(np.float64).tobytes(),
        b"" if zero is None or not zero.any() else zero.astype(np.int64).tobytes(),
    )
