"""Graphs with channels last -> channels first."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from ..graphs.passes.graph import attribute, constant, operand, producer, set_constant

_ELEMENTWISE = {
    *("Abs", "Add", "And", "Cast", "Ceil", "Celu", "Clip", "Div", "Elu", "Equal", "Erf", "Exp"),
    *("Floor", "Greater", "GreaterOrEqual", "HardSigmoid", "HardSwish", "Identity", "LeakyRelu"),
    *("Less", "LessOrEqual", "Log", "Max", "Mean", "Min", "Mul", "Neg", "Not", "Or", "PRelu"),
    *("Pow", "Reciprocal", "Relu", "Round", "Selu", "Sigmoid", "Sign", "Softplus", "Softsign"),
    *("Sqrt", "Sub", "Sum", "Tanh", "ThresholdedRelu", "Where"),
}
_WITH_AXIS = {"Concat", "LogSoftmax", "Softmax", "Split"}
_REDUCTIONS = {
    *("ReduceL1", "ReduceL2", "ReduceLogSumExp", "ReduceMax", "ReduceMean", "ReduceMin"),
    *("ReduceProd", "ReduceSum", "ReduceSumSquare"),
}
_OTHERS = {"Pad", "Resize", "Shape", "Slice", "Transpose"}


class SinkTransposes(ir.passes.InPlacePass):
    """Moves Transposes of maps behind the nodes that read them, where the next one undoes them.

    TensorFlow's graphs have channels last. Their converter puts a Transpose before and behind each
    convolution, and what stands between two convolutions computes with channels last. Here it
    computes with channels first. Transposes that other nodes need stay.
    """

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Go through the nodes in the graph's order: what moves is met again."""
        before = [node.op_type for node in model.graph]
        for node in model.graph:
            if node.op_type in _ELEMENTWISE | _WITH_AXIS | _REDUCTIONS | _OTHERS:
                perm = _perm_before(node)
                if perm is not None and _can_move(node, perm):
                    _move(node, perm)
        return ir.passes.PassResult(model, before != [node.op_type for node in model.graph])


def _transposed(value: ir.Value | None) -> tuple[int, ...] | None:
    """The perm of the Transpose that puts out a value, if it leaves the batch in its place."""
    node = producer(value, "Transpose")
    perm: tuple[int, ...] = () if node is None else attribute(node, "perm", ())
    return perm if len(perm) == 4 and perm[0] == 0 else None


def _data(node: ir.Node) -> list[int]:
    """Indices of the inputs that are maps."""
    if node.op_type in _ELEMENTWISE - {"Clip"} | {"Concat"}:
        return list(range(len(node.inputs)))
    return [0]


def _perm_before(node: ir.Node) -> tuple[int, ...] | None:
    perms = {_transposed(node.inputs[index]) for index in _data(node)} - {None}
    return perms.pop() if len(perms) == 1 else None


def _can_move(node: ir.Node, perm: tuple[int, ...]) -> bool:
    for index in _data(node):
        value = node.inputs[index]
        if value is None:
            return False
        moves = _transposed(value) == perm
        fixed = constant(value)
        if not moves and not (fixed is not None and fixed.ndim <= 4) and not _is_point(value):
            return False
    if node.op_type == "Pad":
        return constant(operand(node, 1)) is not None
    if node.op_type == "Slice":
        return constant(operand(node, 3)) is not None
    if node.op_type == "Resize":
        given = [value for value in node.inputs[1:] if value is not None]
        return all(constant(value) is not None for value in given)
    if node.op_type in _REDUCTIONS:
        axes = _reduced(node)
        left = [perm[axis] for axis in range(4) if axis not in axes]
        return bool(axes) and (bool(attribute(node, "keepdims", 1)) or left == sorted(left))
    if node.op_type == "Shape":
        return "start" not in node.attributes and "end" not in node.attributes
    if node.op_type == "Transpose":
        return bool(attribute(node, "perm", ())[0] == 0)
    return True


def _is_point(value: ir.Value) -> bool:
    """Whether a value is computed and has one number for each channel, as a gate has."""
    sizes = () if value.shape is None else tuple(value.shape)
    return len(sizes) == 4 and sizes[1:].count(1) >= 2


def _reduced(node: ir.Node) -> list[int]:
    given = constant(operand(node, 1))
    axes = attribute(node, "axes", () if given is None else tuple(given.tolist()))
    return [int(axis) % 4 for axis in axes]


def _move(node: ir.Node, perm: tuple[int, ...]) -> None:
    """Let a node read what the Transposes before it read, and put one behind it."""
    for index in _data(node):
        value = node.inputs[index]
        source, fixed = producer(value), constant(value)
        if _transposed(value) == perm:
            assert source is not None
            node.replace_input_with(index, source.inputs[0])
        elif fixed is not None:
            if fixed.ndim:  # a scalar fits as it is
                whole = fixed.reshape((1,) * (4 - fixed.ndim) + fixed.shape)
                set_constant(node, index, whole.transpose(np.argsort(perm)))
        else:
            _insert_back(node, index, perm)
    if node.op_type == "Transpose":
        there = attribute(node, "perm", ())
        _set_perm(node, tuple(perm[axis] for axis in there))
        return
    if node.op_type == "Shape":
        _permute_shape(node, perm)
        return
    _adjust(node, perm)
    if node.op_type in _REDUCTIONS and not attribute(node, "keepdims", 1):
        return
    for output in list(node.outputs):
        _append(node, output, perm)


def _set_perm(node: ir.Node, perm: tuple[int, ...]) -> None:
    """Change a Transpose; one that changes nothing goes, unless it is the graph's output."""
    source, output = node.inputs[0], node.outputs[0]
    assert source is not None and node.graph is not None
    if perm != (0, 1, 2, 3):
        node.attributes.add(ir.AttrInt64s("perm", perm))
        return
    if output.is_graph_output():
        if source.producer() is None:
            node.op_type = "Identity"
            node.attributes.clear()
            return
        source.name, output.name = output.name, f"{output.name}_before"
    output.replace_all_uses_with(source, replace_graph_outputs=True)
    node.graph.remove(node, safe=True)


def _insert_back(node: ir.Node, index: int, perm: tuple[int, ...]) -> None:
    """A Transpose in front of another input: a gate of one number for each channel."""
    value = node.inputs[index]
    assert value is not None
    back = tuple(int(axis) for axis in np.argsort(perm))
    new = ir.node("Transpose", [value], {"perm": back}, name=f"{node.name}_gate{index}")
    new.outputs[0].name = f"{new.name}_output"
    new.outputs[0].type = value.type
    if value.shape is not None:
        new.outputs[0].shape = ir.Shape([value.shape[axis] for axis in back])
    node.prepend([new])
    node.replace_input_with(index, new.outputs[0])


def _permute_shape(node: ir.Node, perm: tuple[int, ...]) -> None:
    output = node.outputs[0]
    name = f"{node.name}_permuted"
    indices = ir.val(f"{name}_indices", const_value=ir.tensor(np.array(perm, np.int64)))
    assert node.graph is not None
    node.graph.register_initializer(indices)
    gather = ir.node("Gather", [output, indices], {"axis": 0}, name=name)
    gather.outputs[0].type, gather.outputs[0].shape = output.type, output.shape
    output.replace_all_uses_with(gather.outputs[0], replace_graph_outputs=True)
    gather.replace_input_with(0, output)
    gather.outputs[0].name = f"{name}_output"
    node.append([gather])


def _adjust(node: ir.Node, perm: tuple[int, ...]) -> None:
    """Axes and values for each axis, for the order before the Transpose."""
    back = np.argsort(perm)
    if node.op_type in _WITH_AXIS:
        last = -1 if "oftmax" in node.op_type else 0
        node.attributes.add(ir.AttrInt64("axis", perm[attribute(node, "axis", last) % 4]))
    elif node.op_type in _REDUCTIONS:
        axes = sorted(perm[axis] for axis in _reduced(node))
        if "axes" in node.attributes:
            node.attributes.add(ir.AttrInt64s("axes", axes))
        else:
            set_constant(node, 1, np.array(axes, np.int64))
    elif node.op_type == "Pad":
        pads = constant(operand(node, 1))
        assert pads is not None
        set_constant(node, 1, pads.reshape(2, 4)[:, back].reshape(-1))
    elif node.op_type == "Slice":
        axes_given = constant(operand(node, 3))
        assert axes_given is not None
        set_constant(node, 3, np.array([perm[int(axis) % 4] for axis in axes_given], np.int64))
    elif node.op_type == "Resize":
        for index in range(1, len(node.inputs)):
            values = constant(operand(node, index))
            if values is not None and values.size:
                set_constant(node, index, values.reshape(-1, 4)[:, back].reshape(-1))


def _append(node: ir.Node, output: ir.Value, perm: tuple[int, ...]) -> None:
    """A Transpose behind an output; it takes the output's readers."""
    after = ir.node("Transpose", [output], {"perm": perm}, name=f"{output.name}_transpose")
    new = after.outputs[0]
    new.type, new.shape, output.shape = output.type, output.shape, None
    output.replace_all_uses_with(new, replace_graph_outputs=True)
    after.replace_input_with(0, output)
    if new.is_graph_output():
        new.name, output.name = output.name, f"{output.name}_before"
    else:
        new.name = f"{output.name}_transposed"
    if new.shape is not None:
        back = [int(axis) for axis in np.argsort(perm)]
        output.shape = ir.Shape([new.shape[axis] for axis in back])
    node.append([after])
