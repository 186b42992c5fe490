"""Activations in forms that ONNX Runtime computes fast."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from .graph import Chain, NodePass, constant, operand, producer, remove


class PReluToLeakyRelu(NodePass):
    """PRelu with one slope for all channels -> LeakyRelu.

    Both are the same function. ONNX Runtime's PRelu took twenty times as long on 330,000 values,
    and TensorRT fuses a LeakyRelu with the convolution before it.
    """

    def matches(self, node: ir.Node) -> bool:
        """Every PRelu with a constant slope of which all values are equal."""
        return node.op_type == "PRelu" and _slope(node) is not None

    def rewrite(self, node: ir.Node) -> None:
        """The slope becomes an attribute."""
        chain = Chain(node, node.inputs[0])
        chain.add("LeakyRelu", "", alpha=_slope(node))
        chain.replace_node()


def _slope(prelu: ir.Node) -> float | None:
    slopes = constant(operand(prelu, 1))
    if slopes is None or not slopes.size or (slopes != slopes.flat[0]).any():
        return None
    return float(slopes.flat[0])


class HardSwishInInt8(NodePass):
    """A HardSwish between Q/DQ pairs -> a sum and a product in INT8.

    x * clip(x / 6 + 1/2, 0, 1): a DequantizeLinear by a sixth of the scale gives x / 6, and the
    range of the gate, 0 to 1, clips it. ONNX Runtime has no kernel for HardSwish. It computes one
    in float, in four passes over the map, which take 2.5 times as long.
    """

    def matches(self, node: ir.Node) -> bool:
        """Every HardSwish of a dequantized unsigned byte that only a QuantizeLinear reads."""
        before = producer(node.inputs[0], "DequantizeLinear")
        if node.op_type != "HardSwish" or before is None or node.outputs[0].is_graph_output():
            return False
        scale, zero = (constant(operand(before, index)) for index in (1, 2))
        if scale is None or zero is None or zero.dtype != np.uint8 or scale.size != 1:
            return False
        return [reader.op_type for reader in node.outputs[0].consumers()] == ["QuantizeLinear"]

    def rewrite(self, node: ir.Node) -> None:
        """The product keeps the node's name."""
        before = producer(node.inputs[0])
        assert before is not None
        levels, scale, zero = before.inputs
        assert scale is not None and scale.const_value is not None
        sixth = _constant(node, "sixth", scale.const_value.numpy() / np.float32(6))
        one = _constant(node, "one", np.uint8(1))
        half = _constant(node, "half", np.float32(0.5))
        none = _constant(node, "zero", np.uint8(0))
        step = _constant(node, "step", np.float32(1 / 255))
        made = [
            ir.node("DequantizeLinear", [levels, sixth, zero], name=f"{node.name}::sixth"),
            ir.node("DequantizeLinear", [one, half, none], name=f"{node.name}::half"),
        ]
        made.append(ir.node("Add", [m.outputs[0] for m in made], name=f"{node.name}::sum"))
        for kind in ("QuantizeLinear", "DequantizeLinear"):
            inputs = [made[-1].outputs[0], step, none]
            made.append(ir.node(kind, inputs, name=f"{node.name}::gate_{kind}"))
        made.append(ir.node("Mul", [node.inputs[0], made[-1].outputs[0]], name=node.name))
        for part in made:
            part.outputs[0].name = f"{part.name}_output"
        node.outputs[0].replace_all_uses_with(made[-1].outputs[0])
        node.prepend(made)
        remove(node)


def _constant(node: ir.Node, name: str, values: npt.ArrayLike) -> ir.Value:
    assert node.graph is not None
    value = ir.val(f"{node.name}::{name}", const_value=ir.tensor(np.asarray(values)))
    node.graph.register_initializer(value)
    return value
