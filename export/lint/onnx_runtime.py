"""What keeps ONNX Runtime's CPU kernels from INT8, or makes it slower than FP32."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from ..graphs.passes.graph import Array, attribute, constant, of_type, operand, producer
from ..int8.pair_sums import LIMIT, largest_pair, terms_of
from .quantizers import Q, dequantizer, element_type, parameters, quantizers
from .rule import Broken, Rule

_ACTIVATIONS = ("Relu", "Clip")


def unfolded_activation(graph: ir.Graph) -> Broken:
    """Relu and Clip fold into the Q behind them only if 0 is the lowest level.

    Else they and the convolution before them stay float: a whole net took 90 ms, against 44 ms in
    FP32 and 23 ms with unsigned activations.
    """
    for node in of_type(graph, *_ACTIVATIONS):
        for pair in quantizers(node.outputs[0]):
            zero = constant(operand(pair, 2))
            if zero is None or not zero.size or zero.dtype.kind not in "iu":  # None: UINT8, 0
                continue
            if zero.flat[0] != np.iinfo(zero.dtype).min:
                yield (
                    node,
                    f"is followed by {zero.dtype} with a zero point of {zero.flat[0]}, into which "
                    "it does not fold: slower than FP32. Quantize activations asymmetrically "
                    "to UINT8.",
                )


def split_activation(graph: ir.Graph) -> Broken:
    """A pair between a convolution and its activation keeps them from fusing, and rounds twice."""
    for node in of_type(graph, *_ACTIVATIONS):
        pair = dequantizer(operand(node, 0))
        quantizer = None if pair is None else producer(operand(pair, 0), Q)
        if quantizer is not None and producer(operand(quantizer, 0), "Conv") is not None:
            yield (node, "is kept from its Conv by Q/DQ. Quantize behind the activation only.")


def resize_scales(graph: ir.Graph) -> Broken:
    """Resize runs in INT8 only if scale and zero point are the same on its two sides."""
    for node in of_type(graph, "Resize"):
        before = dequantizer(operand(node, 0))
        if before is None:
            continue
        wanted = parameters(before)
        if any(parameters(pair) != wanted for pair in quantizers(node.outputs[0])):
            yield (
                node,
                "has other scales behind it than in front, so it runs in float. "
                "Give both sides one range.",
            )


def narrow_sums(graph: ir.Graph) -> Broken:
    """x86-64 processors without VNNI add pairs of products in 16 bits, which saturates.

    ONNX Runtime's documentation, "Quantize ONNX models", on U8S8. See `int8.pair_sums`.
    """
    for node in of_type(graph, "Conv", "MatMul"):
        weight = dequantizer(operand(node, 1))
        if weight is None or dequantizer(operand(node, 0)) is None:
            continue
        integers = _integers(weight)
        terms = None if integers is None else terms_of(node, integers)
        if terms is not None and largest_pair(terms) > LIMIT:
            yield (
                node,
                f"has weights that add up to more than {LIMIT} in a pair: on x86 processors "
                "without VNNI its sums may saturate. Quantize with `edgeunet export`, or to 7 bits "
                "(reduce_range).",
            )


def _integers(pair: ir.Node) -> Array | None:
    """Signed 8-bit weights in front of a DQ, also those that a Q in front of it rounds."""
    values = constant(operand(pair, 0))
    quantizer = producer(operand(pair, 0), Q)
    if quantizer is not None:
        values, scale = constant(operand(quantizer, 0)), constant(operand(quantizer, 1))
        if (
            values is None
            or scale is None
            or element_type(operand(quantizer, 2)) != ir.DataType.INT8
        ):
            return None
        shape = [1] * values.ndim
        shape[attribute(quantizer, "axis", 1)] = -1
        steps = values / (scale if scale.size == 1 else scale.reshape(shape))
        values = np.clip(np.rint(steps), -128, 127).astype(np.int8)
    return values if values is not None and values.dtype == np.int8 else None


RULES = (
    Rule("narrow-sums", "warning", ("ort-cpu",), narrow_sums),
    Rule("unfolded-activation", "warning", ("ort-cpu",), unfolded_activation),
    Rule("split-activation", "warning", ("ort-cpu",), split_activation),
    Rule("resize-two-scales", "warning", ("ort-cpu",), resize_scales),
)
