"""What keeps ONNX Runtime's CPU kernels from INT8, or makes it slower than FP32."""

from __future__ import annotations

import numpy as np

from .graph import Graph, operand
from .quantizers import Q, dequantizer, parameters, quantizers
from .rule import Broken, Rule

_ACTIVATIONS = ("Relu", "Clip")


def unfolded_activation(graph: Graph) -> Broken:
    """Relu and Clip fold into the Q behind them only where 0 is the lowest level.

    Elsewhere they and the convolution before them stay float: a whole net took 90 ms instead of
    44 ms in FP32 and 23 ms with unsigned activations.
    """
    for node in graph.of_type(*_ACTIVATIONS):
        for pair in quantizers(graph, node.output[0]):
            zero = graph.constant(operand(pair, 2))
            if zero is None or not zero.size or zero.dtype.kind not in "iu":  # None: UINT8, 0
                continue
            if zero.flat[0] != np.iinfo(zero.dtype).min:
                yield (
                    node,
                    f"is followed by {zero.dtype} with a zero point of {zero.flat[0]}, into which "
                    "it does not fold: slower than FP32. Quantize activations asymmetrically "
                    "to UINT8.",
                )


def split_activation(graph: Graph) -> Broken:
    """A pair between a convolution and its activation keeps them from fusing, and rounds twice."""
    for node in graph.of_type(*_ACTIVATIONS):
        pair = dequantizer(graph, operand(node, 0))
        quantizer = None if pair is None else graph.producer(operand(pair, 0))
        if quantizer is None or quantizer.op_type != Q:
            continue
        made = graph.producer(operand(quantizer, 0))
        if made is not None and made.op_type == "Conv":
            yield (
                node,
                "is kept from its Conv by Q/DQ. Quantize behind the activation only.",
            )


def resize_scales(graph: Graph) -> Broken:
    """Resize runs in INT8 only where scale and zero point are the same on its two sides."""
    for node in graph.of_type("Resize"):
        before = dequantizer(graph, operand(node, 0))
        if before is None:
            continue
        wanted = parameters(graph, before)
        if any(parameters(graph, pair) != wanted for pair in quantizers(graph, node.output[0])):
            yield (
                node,
                "has other scales behind it than in front, so it runs in float. "
                "Give both sides one range.",
            )


RULES = (
    Rule("unfolded-activation", "warning", ("ort-cpu",), unfolded_activation),
    Rule("split-activation", "warning", ("ort-cpu",), split_activation),
    Rule("resize-two-scales", "warning", ("ort-cpu",), resize_scales),
)
