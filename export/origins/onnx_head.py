"""What stands behind the logits of a graph: found, and cut off."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import onnx_ir as ir
from onnx_ir.passes.common import RemoveUnusedNodesPass

from edgeunet.errors import ExportError

from ..graphs.passes.graph import attribute, constant, operand, producer

Activation = Literal["none", "softmax", "log_softmax", "sigmoid"]
Decision = Literal["none", "argmax", "threshold"]

_SKIPPED = ("Identity", "Cast", "Dropout")
_MAPS = (
    *("AveragePool", "BatchNormalization", "Conv", "ConvTranspose", "DepthToSpace"),
    *("InstanceNormalization", "MaxPool", "Upsample"),
)
"""Operators whose maps have their channels on axis 1."""
_ENLARGING = ("Resize", "Upsample")
_INTEGERS = (
    *(ir.DataType.BOOL, ir.DataType.INT8, ir.DataType.INT16, ir.DataType.INT32),
    *(ir.DataType.INT64, ir.DataType.UINT8, ir.DataType.UINT16, ir.DataType.UINT32),
    ir.DataType.UINT64,
)


@dataclass(frozen=True)
class Head:
    """Where the logits of a graph are, and what was behind them.

    value: name of the value that holds them. axis: of its channels, 1 (NCHW) or 3 (NHWC).
    activation: what made probabilities of them. decision: what made class ids of these.
    threshold: of one channel, as a logit.
    probabilities: whether `value` holds probabilities: their Resize is part of the function, and
        is not the same on logits.
    cut: the operators that were cut off, from the output on.
    """

    value: str
    axis: int = 1
    activation: Activation = "none"
    decision: Decision = "none"
    threshold: float = 0.0
    probabilities: bool = False
    cut: tuple[str, ...] = ()

    @property
    def told(self) -> str:
        """What was found, for people."""
        behind = ", ".join(self.cut)
        found = f"cut off behind the logits: {behind}" if behind else "the output holds logits"
        if self.probabilities:
            return f"{found}; {self.activation} in front of the Resize stays, with a logarithm"
        return found


def cut_head(model: ir.Model, output: ir.Value | None = None) -> Head:
    """Cut softmax, sigmoid, argmax, threshold and casts off a graph, of any opset.

    The graph then has one output: the logits, under the name of the output that was there.

    Args:
        output: a value of the graph instead of its first output.

    Raises:
        ExportError: an output that is no map of classes, or integers that come from no argmax.
    """
    graph = model.graph
    output = output or graph.outputs[0]
    name = str(graph.outputs[0].name)
    value, head = find_head(output)
    if value.producer() is None:
        raise ExportError(f"the output {output.name!r} is computed from nothing; expected a net.")
    graph.outputs[:] = [value]
    RemoveUnusedNodesPass()(model)
    if all(each.name != name for node in graph for each in node.outputs):
        value.name = name
    return head


def find_head(output: ir.Value) -> tuple[ir.Value, Head]:
    """The value that holds the logits, and what stands behind it.

    Raises:
        ExportError: see `cut_head`.
    """
    walk = _Walk(output)
    while walk.step():
        pass
    value, rank = walk.value, walk.rank(walk.value)
    if walk.decision == "none" and output.dtype in _INTEGERS:
        node = producer(value)
        what = "an input" if node is None else f"the node {node.name!r} ({node.op_type})"
        raise ExportError(
            f"the output {output.name!r} holds {output.dtype}, made by {what}; expected logits, "
            "probabilities, or the class ids of an ArgMax. Name the logits: --head NAME."
        )
    if rank not in (None, 4):
        raise ExportError(
            f"the output {output.name!r} has {rank} dimensions; expected maps of classes (batch, "
            "classes, height, width). Name the logits: --head NAME."
        )
    axis = channel_axis(value) if walk.axis is None else walk.axis
    if axis not in (1, 3):
        raise ExportError(
            f"the classes of {value.name!r} are on axis {axis}; expected 1 or 3. Name the logits: "
            "--head NAME."
        )
    if [place for place in walk.order if place != axis] != sorted({0, 1, 2, 3} - {axis}):
        raise ExportError(
            f"the output {output.name!r} has height and width in another order than the image; "
            "expected maps (batch, classes, h, w). Name the logits: --head NAME."
        )
    head = Head(
        str(value.name),
        axis,
        walk.activation,
        walk.decision,
        _as_logit(walk.threshold, walk.activation, output),
        walk.probabilities,
        tuple(walk.cut),
    )
    return value, head


def _as_logit(threshold: float | None, activation: Activation, output: ir.Value) -> float:
    if threshold is None or activation != "sigmoid":
        return threshold or 0.0
    if not 0 < threshold < 1:
        raise ExportError(
            f"the output {output.name!r} compares a sigmoid with {threshold:g}; expected a number "
            "between 0 and 1. Name the logits: --head NAME."
        )
    return math.log(threshold / (1 - threshold))


class _Walk:
    """Goes from the output to the logits.

    axis: of the channels, None until a node tells.
    """

    def __init__(self, output: ir.Value) -> None:
        self.value = output
        self.axis: int | None = None
        self.activation: Activation = "none"
        self.decision: Decision = "none"
        self.threshold: float | None = None
        self.probabilities = False
        self.cut: list[str] = []
        self.perms: list[tuple[int, ...]] = []  # of Transposes before the axis is known
        self.order = [0, 1, 2, 3]  # for each axis of the output the one of the value

    def step(self) -> bool:
        """Go on by a node; False at the logits."""
        node = producer(self.value)
        if node is None or operand(node, 0) is None:
            return False
        op = node.op_type
        if op in _SKIPPED:
            return self._to(node.inputs[0], op if op == "Cast" else None)
        if op == "Transpose":
            return self._transpose(node)
        if op in ("Squeeze", "Unsqueeze"):
            return self.axis is None and self._to(node.inputs[0], None)
        if op == "Reshape":
            return self._reshape(node)
        if op in _ENLARGING:
            return self._enlarge(node)
        return self._decide(node) or self._activate(node)

    def rank(self, value: ir.Value | None) -> int | None:
        """Number of dimensions, None if it is not known."""
        return None if value is None or value.shape is None else len(value.shape)

    def _to(self, value: ir.Value | None, name: str | None) -> bool:
        assert value is not None
        self.value = value
        if name is not None:
            self.cut.append(name)
        return True

    def _transpose(self, node: ir.Node) -> bool:
        perm: tuple[int, ...] = attribute(node, "perm", ())
        self.order = [perm[axis] for axis in self.order] if len(perm) == 4 else []
        if self.axis is None:
            self.perms.append(perm)
        else:
            self.axis = perm[self.axis]
        return self._to(node.inputs[0], None)

    def _take_axis(self, axis: int, value: ir.Value | None) -> bool:
        """Note the channels' axis; False if another one is known."""
        axis %= self.rank(value) or 4
        if self.axis not in (None, axis):
            return False
        self.axis = axis
        return True

    def _reshape(self, node: ir.Node) -> bool:
        """Pixels in one row, or a single channel on another axis."""
        value, ranks = (
            node.inputs[0],
            [self.rank(each) for each in (node.inputs[0], node.outputs[0])],
        )
        assert value is not None
        if ranks == [4, 4]:
            sizes = [tuple(each.shape or ())[1:] for each in (value, node.outputs[0])]
            without = [[size for size in each if size != 1] for each in sizes]
            if len(without[0]) != 2 or without[0] != without[1] or self.decision == "argmax":
                return False
            self.axis = None if self.axis is None else 1 + sizes[0].index(1)
            return self._to(value, None)
        if ranks[0] not in (4, None) or ranks[1] not in (3, None):
            return False
        before = channel_axis(value)
        last = before == 3 if self.axis is None else self.axis > 1
        if before != (3 if last else 1):
            return False  # (N, H W, C) is of channels last, (N, C, H W) of channels first
        self.axis = before
        return self._to(value, "Reshape")

    def _enlarge(self, node: ir.Node) -> bool:
        """A Resize stays. Of probabilities it is another function than of logits."""
        found = _Walk(node.inputs[0])  # type: ignore[arg-type]
        found.axis = self.axis
        while found.activation == "none" and found.step():
            pass
        if found.decision == "none":
            if found.activation != "none" and self.activation == "none":
                self.activation, self.probabilities = found.activation, True
                if self.axis is None and found.axis is not None:
                    self.axis = _behind_perms(found.axis, found.perms)
            return False
        raise ExportError(
            f"the node {node.name!r} ({node.op_type}) enlarges class ids behind an ArgMax; "
            f"expected it in front. Name the logits: --head {found.value.name}."
        )

    def _decide(self, node: ir.Node) -> bool:
        if self.decision != "none" or self.activation != "none":
            return False
        x = node.inputs[0]
        if node.op_type == "ArgMax" and not attribute(node, "select_last_index", 0):
            self.decision = "argmax"
            return self._take_axis(attribute(node, "axis", 0), x) and self._to(x, "ArgMax")
        limit = constant(operand(node, 1))
        if node.op_type in ("Greater", "GreaterOrEqual") and limit is not None and limit.size == 1:
            self.decision, self.threshold = "threshold", float(limit.reshape(()))
            return self._to(x, f"{node.op_type} {self.threshold:g}")
        if node.op_type == "Round" and producer(x, "Sigmoid") is not None:
            self.decision, self.threshold = "threshold", 0.5
            return self._to(x, "Round")
        return False

    def _activate(self, node: ir.Node) -> bool:
        if self.activation != "none":
            return False
        if node.op_type == "Sigmoid":
            self.activation = "sigmoid"
            return self._to(node.inputs[0], "Sigmoid")
        logarithm = node.op_type == "Log" and producer(node.inputs[0])
        for x, axis, name in _softmax(logarithm or node):
            if not self._take_axis(axis, x):
                return False
            is_log = bool(logarithm) or name.startswith("LogSoftmax")
            self.activation = "log_softmax" if is_log else "softmax"
            return self._to(x, f"Log, {name}" if logarithm else name)
        return False


def _softmax(node: ir.Node) -> Iterator[tuple[ir.Value, int, str]]:
    """Input, axis and name of a softmax that ends with this node, also of one written out."""
    if node.op_type in ("Softmax", "LogSoftmax"):
        assert node.inputs[0] is not None
        old = (node.graph.opset_imports if node.graph else {}).get("", 13) < 13
        yield node.inputs[0], attribute(node, "axis", 1 if old else -1), node.op_type
    elif node.op_type == "Sub":
        total = producer(operand(node, 1), "ReduceLogSumExp")
        if total is not None and total.inputs[0] is node.inputs[0]:
            yield from _over(total, node.inputs[0], "LogSoftmax in primitive operators")
    elif node.op_type in ("Div", "Mul"):
        divisor = operand(node, 1)
        if node.op_type == "Mul":
            reciprocal = producer(divisor, "Reciprocal")
            divisor = None if reciprocal is None else reciprocal.inputs[0]
        total, power = producer(divisor, "ReduceSum"), producer(node.inputs[0], "Exp")
        if total is not None and power is not None and total.inputs[0] is power.outputs[0]:
            x = power.inputs[0]
            shifted = producer(x, "Sub")
            largest = None if shifted is None else producer(operand(shifted, 1), "ReduceMax")
            if shifted is not None and largest and largest.inputs[0] is shifted.inputs[0]:
                x = shifted.inputs[0]
            yield from _over(total, x, "softmax in primitive operators")


def _over(node: ir.Node, x: ir.Value | None, name: str) -> Iterator[tuple[ir.Value, int, str]]:
    """The same for a reduction over one axis that keeps it."""
    given = constant(operand(node, 1))
    axes = attribute(node, "axes", () if given is None else tuple(given.tolist()))
    if x is not None and len(axes) == 1 and attribute(node, "keepdims", 1):
        yield x, int(axes[0]), name


def channel_axis(value: ir.Value) -> int:
    """Axis of the channels of a map, by the convolution that it comes from.

    If a Reshape hides that, the smallest side is the channels.
    """
    perms = []
    node = producer(value)
    while node is not None and node.op_type not in (*_MAPS, "Reshape"):
        if node.op_type == "Transpose":
            perms.append(attribute(node, "perm", ()))
        computed = [x for x in node.inputs if x is not None and producer(x) is not None]
        node = producer(computed[0]) if computed else None
    if node is not None and node.op_type in _MAPS:
        return _behind_perms(1, perms)
    sizes = [size if isinstance(size, int) else 0 for size in value.shape or ()]
    return 3 if len(sizes) == 4 and 0 < sizes[3] < min(sizes[1], sizes[2]) else 1


def _behind_perms(axis: int, perms: list[tuple[int, ...]]) -> int:
    """An axis behind Transposes, which are given from the last to the first."""
    for perm in reversed(perms):
        axis = perm.index(axis) if axis in perm else axis
    return axis
