"""Nodes that compute nothing, and Q/DQ pairs that only cost time.

What a pass leaves without readers, `RemoveUnusedNodesPass` removes.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
from onnx_ir.passes.common import (
    IdentityEliminationPass,
    LiftConstantsToInitializersPass,
    RemoveUnusedNodesPass,
)

from .graph import NodePass, attribute, constant, names, producer, remove, weights


class Clean(ir.passes.Sequential):
    """Removes Identity and Constant nodes, and nodes and initializers that nothing reads."""

    def __init__(self) -> None:
        super().__init__(
            LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0),
            IdentityEliminationPass(),
            RemoveUnusedNodesPass(),
        )

    def ensures(self, model: ir.Model) -> None:
        """PostconditionError if an Identity or a Constant is left."""
        left = [str(node.name) for node in model.graph if node.op_type in ("Identity", "Constant")]
        if left:
            raise ir.passes.PostconditionError(f"Clean left {', '.join(left)}")


class CancelTransposes(NodePass):
    """What reads a Transpose that undoes the one before reads what that one reads.

    ONNX Runtime removes such two itself, but leaves the Q/DQ pairs that stand between them, and
    converts the whole map to float and back. The first of the two stays, for other readers.
    """

    def matches(self, node: ir.Node) -> bool:
        """Every Transpose that undoes the Transpose before it."""
        first = producer(node.inputs[0], "Transpose") if node.op_type == "Transpose" else None
        if first is None or node.outputs[0].is_graph_output():
            return False
        there, back = attribute(first, "perm", ()), attribute(node, "perm", ())
        return [there[axis] for axis in back] == sorted(there)

    def rewrite(self, node: ir.Node) -> None:
        """Skip both."""
        first = producer(node.inputs[0])
        assert first is not None and first.inputs[0] is not None
        node.outputs[0].replace_all_uses_with(first.inputs[0])
        remove(node)


class ConcatInInt8(NodePass):
    """A Concat joins quantized tensors as they are.

    ONNX Runtime makes a QLinearConcat of a Concat with Q/DQ pairs, and runs that on one thread;
    its Concat runs on all. The bytes are the same. The pairs in front stay, for other readers.
    """

    def matches(self, node: ir.Node) -> bool:
        """Every Concat with pairs on all sides that have one scale and zero point."""
        before = [producer(value, "DequantizeLinear") for value in node.inputs]
        after = node.outputs[0].consumers()
        one_reader = [reader.op_type for reader in after] == ["QuantizeLinear"]
        if node.op_type != "Concat" or not one_reader or node.outputs[0].is_graph_output():
            return False
        pairs = [pair for pair in (*before, *after) if pair is not None]
        return len(pairs) == len(before) + 1 and len({_parameters(pair) for pair in pairs}) == 1

    def rewrite(self, node: ir.Node) -> None:
        """Read what the DequantizeLinears read, put out what the QuantizeLinear puts out."""
        for index, value in enumerate(node.inputs):
            dequantize = producer(value)
            assert dequantize is not None
            node.replace_input_with(index, dequantize.inputs[0])
        (quantize,) = node.outputs[0].consumers()
        old, new = quantize.outputs[0], node.outputs[0]
        old.replace_all_uses_with(new, replace_graph_outputs=True)
        new.name, new.type, new.shape = old.name, old.type, old.shape
        remove(quantize)


def _parameters(pair: ir.Node) -> tuple[object, ...]:
    """Scale and zero point of a Q or DQ, to compare; a computed one equals only itself."""
    found = ((value, constant(value)) for value in pair.inputs[1:])
    return tuple(value if array is None else array.tobytes() for value, array in found)


_MOVES = (
    "Concat",
    "DepthToSpace",
    "MaxPool",
    "Reshape",
    "Slice",
    "Split",
    "Transpose",
)


class MoveBytes(NodePass):
    """What moves quantized values has no pair behind it: the values are those of the pair before.

    OpenVINO moves bytes then. It computes every pair that it meets, also one that changes nothing.
    """

    def matches(self, node: ir.Node) -> bool:
        """Every QuantizeLinear of a pair whose input has this scale and zero point already."""
        after = {reader.op_type for reader in node.outputs[0].consumers()}
        return (
            node.op_type == "QuantizeLinear"
            and after == {"DequantizeLinear"}
            and _moved(node.inputs[0])
            and _held(node.inputs[0]) == {_parameters(node)}
        )

    def rewrite(self, node: ir.Node) -> None:
        """Skip the pair."""
        moved = node.inputs[0]
        assert moved is not None
        for dequantize in [*node.outputs[0].consumers()]:
            dequantize.outputs[0].replace_all_uses_with(moved, replace_graph_outputs=True)
            remove(dequantize)
        remove(node)


def _moved(value: ir.Value | None) -> bool:
    node = producer(value)
    return node is not None and (node.op_type in _MOVES or _repeats(node))


def _repeats(node: ir.Node) -> bool:
    """Whether a node repeats pixels, all or those at the border."""
    mode = {"Resize": "nearest", "Pad": "edge"}.get(node.op_type)
    return mode is not None and attribute(node, "mode", _DEFAULT_MODES[node.op_type]) == mode


_DEFAULT_MODES = {"Resize": "nearest", "Pad": "constant"}


def _held(value: ir.Value | None) -> set[tuple[object, ...]]:
    """Scales and zero points of the quantized values that a tensor is moved from."""
    node = producer(value)
    if node is None:
        return {()}
    if node.op_type == "DequantizeLinear":
        return {_parameters(node)}
    if not _moved(value):
        return {()}
    sources = node.inputs if node.op_type == "Concat" else node.inputs[:1]
    return set().union(*(_held(source) for source in sources))


class ResizeInFloat(NodePass):
    """A Resize reads what stands in front of a Q/DQ pair instead of what comes out of it.

    TensorRT does not fuse a Resize behind a pair with what comes before. A pair stays for other
    nodes that read it.
    """

    def matches(self, node: ir.Node) -> bool:
        """Every Resize that reads a DequantizeLinear whose QuantizeLinear is in the graph."""
        return node.op_type == "Resize" and _quantizer(node.inputs[0]) is not None

    def rewrite(self, node: ir.Node) -> None:
        """Skip the pair."""
        quantize = _quantizer(node.inputs[0])
        assert quantize is not None
        node.replace_input_with(0, quantize.inputs[0])


def _quantizer(value: ir.Value | None) -> ir.Node | None:
    """The QuantizeLinear of the Q/DQ pair that puts out this value."""
    dequantize = producer(value, "DequantizeLinear")
    return None if dequantize is None else producer(dequantize.inputs[0], "QuantizeLinear")


class QuantizeConstants(NodePass):
    """Constants in front of a QuantizeLinear are held as the integers that it makes of them."""

    def matches(self, node: ir.Node) -> bool:
        """Every QuantizeLinear that reads nothing else, and says its zero points."""
        return (
            node.op_type == "QuantizeLinear"
            and len(node.inputs) == 3
            and all(constant(value) is not None for value in node.inputs)
        )

    def rewrite(self, node: ir.Node) -> None:
        """Round as the operator does: to the nearest integer, halves to the even one."""
        values, scales, zeros = weights(node)
        shape = [1] * values.ndim
        if scales.ndim:
            shape[attribute(node, "axis", 1)] = -1
        limits = np.iinfo(zeros.dtype)
        steps = np.rint(values / scales.reshape(shape)) + zeros.reshape(shape)
        integers = ir.tensor(steps.clip(limits.min, limits.max).astype(zeros.dtype))
        held = ir.val(f"{names(node.inputs)[0]}_quantized", const_value=integers)
        assert node.graph is not None
        node.graph.register_initializer(held)
        node.outputs[0].replace_all_uses_with(held)
        remove(node)


class RoundOnce(NodePass):
    """An activation reads what stands in front of a Q/DQ pair that only it reads.

    The pair behind the activation rounds its result. A pair in front, as behind the sum of a
    residual block, rounds twice and costs half the levels, and the two do not fuse.
    """

    def matches(self, node: ir.Node) -> bool:
        """Every Relu and Clip that a pair follows, and that alone reads a pair."""
        pair = _quantizer(node.inputs[0]) if node.op_type in ("Clip", "Relu") else None
        if pair is None or not all(r.op_type == "QuantizeLinear" for r in _readers(node)):
            return False
        return all(len(_readers(part)) == 1 for part in (pair, producer(node.inputs[0]), node))

    def rewrite(self, node: ir.Node) -> None:
        """Skip the pair in front."""
        quantize = _quantizer(node.inputs[0])
        assert quantize is not None
        node.replace_input_with(0, quantize.inputs[0])


def _readers(node: ir.Node | None) -> list[ir.Node]:
    return [] if node is None else list(node.outputs[0].consumers())
