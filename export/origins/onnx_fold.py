"""Rules of padding -> numbers."""

from __future__ import annotations

import math

import onnx_ir as ir

from ..graphs.passes.graph import NodePass, attribute, weights

_POOLS = ("AveragePool", "LpPool", "MaxPool")


class ExplicitPads(NodePass):
    """Padding by the rules SAME and VALID -> numbers, in maps of fixed size."""

    def matches(self, node: ir.Node) -> bool:
        """Every convolution and pooling with such a rule, or with an output size."""
        ruled = attribute(node, "auto_pad", "NOTSET") != "NOTSET"
        if node.op_type in ("Conv", *_POOLS):
            return ruled and (_rule(node) == "VALID" or bool(_size(node)))
        return (
            node.op_type == "ConvTranspose"
            and (ruled or "output_shape" in node.attributes)
            and (_rule(node) == "VALID" or bool(_size(node)))
        )

    def rewrite(self, node: ir.Node) -> None:
        """As the specifications of the operators say."""
        rule, size = _rule(node), _size(node)
        kernel = attribute(node, "kernel_shape", ()) or weights(node)[0].shape[2:]
        strides = attribute(node, "strides", (1, 1))
        dilations = attribute(node, "dilations", (1, 1))
        wanted = attribute(node, "output_shape", ())[-2:]
        extra = attribute(node, "output_padding", (0, 0))
        begin, end = [], []
        for axis in range(2 if rule != "VALID" or wanted else 0):
            extent = (kernel[axis] - 1) * dilations[axis] + 1
            if node.op_type == "ConvTranspose":
                out = wanted[axis] if wanted else size[axis] * strides[axis]
                total = strides[axis] * (size[axis] - 1) + extra[axis] + extent - out
            else:
                out = math.ceil(size[axis] / strides[axis])
                total = (out - 1) * strides[axis] + extent - size[axis]
            total = max(total, 0)
            smaller, larger = total // 2, total - total // 2
            upper = rule == "SAME_UPPER"
            begin.append(smaller if upper else larger)
            end.append(larger if upper else smaller)
        node.attributes.pop("auto_pad", None)
        node.attributes.pop("output_shape", None)
        if begin:
            node.attributes.add(ir.AttrInt64s("pads", [*begin, *end]))


def _rule(node: ir.Node) -> str:
    return str(attribute(node, "auto_pad", "NOTSET"))


def _size(node: ir.Node) -> tuple[int, ...]:
    """Height and width of the map that a node reads, () unless both are fixed."""
    value = node.inputs[0]
    sizes = () if value is None or value.shape is None else tuple(value.shape)[2:]
    fixed = tuple(size for size in sizes if isinstance(size, int))
    return fixed if len(fixed) == len(sizes) == 2 else ()
