"""New nodes of a graph, and where a frame lies in the net's input and in its logits.

Sizes are constants if all frames have the net's size. If they may have any, the graph computes
them, in the arithmetic of `InputSpec`.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from edgeunet.bundle.manifest import InputSpec, covered

from ..passes.folding import scales_between

Constant = npt.NDArray[Any] | np.generic
Operand = ir.Value | Constant | None
Vector = ir.Value | npt.NDArray[np.int64]
"""Rows and columns (2,) int64: constant, or computed in the graph."""

_BLOCK = 8  # of `InputSpec.fitted_size`


class Nodes:
    """New nodes in the order in which they run, for a graph that gets them later.

    Call it with an operator and its inputs for the node's output; constants are arrays, and None
    stands for an input that is left out.

    opset: of the graph.
    """

    def __init__(self, model: ir.Model) -> None:
        self.graph = model.graph
        self.opset = model.opset_imports[""]
        self.nodes: list[ir.Node] = []
        self._count = itertools.count()

    def __call__(self, op: str, *inputs: Operand, **attributes: Any) -> ir.Value:
        """Add a node and return its output."""
        return self.several(op, *inputs, outputs=1, **attributes)[0]

    def several(
        self, op: str, *inputs: Operand, outputs: int, **attributes: Any
    ) -> Sequence[ir.Value]:
        """As a call, for a node of several outputs."""
        name = f"pixels/{op}_{next(self._count)}"
        values = [
            self._constant(value, f"{name}_input{index}")
            if isinstance(value, (np.ndarray, np.generic))
            else value
            for index, value in enumerate(inputs)
        ]
        node = ir.node(op, values, attributes, num_outputs=outputs, name=name)
        for index, value in enumerate(node.outputs):
            value.name = f"{name}_output{index}"
        self.nodes.append(node)
        return node.outputs

    def reduced(self, op: str, maps: ir.Value, *, keepdims: int) -> ir.Value:
        """A reduction over the channels; its axes became an input in opset 18."""
        if self.opset < 18:
            return self(op, maps, axes=[1], keepdims=keepdims)
        return self(op, maps, np.array([1]), keepdims=keepdims)

    def take(self) -> list[ir.Node]:
        """The nodes so far, which go to the caller."""
        taken, self.nodes = self.nodes, []
        return taken

    def _constant(self, values: Constant, name: str) -> ir.Value:
        value = ir.val(name, const_value=ir.tensor(np.asarray(values), name=name))
        self.graph.register_initializer(value)
        return value


@dataclass(frozen=True)
class Geometry:
    """Where frames of one size lie.

    size: of a frame and its mask. fitted: of the frame in the net's input; the frame is resized if
    the two are not one object.
    before, after: padding of the fitted frame; None without any.
    first, last: the logits that the frame covers; None for all.
    """

    size: Vector
    fitted: Vector
    before: Vector | None = None
    after: Vector | None = None
    first: Vector | None = None
    last: Vector | None = None


def fixed_geometry(spec: InputSpec, logits_size: tuple[int, int]) -> Geometry:
    """Of frames of the net's size."""
    size = (spec.height, spec.width)
    fitted, offset = spec.fitted_size(*size), spec.offset(*size)
    whole = np.array(size, np.int64)
    if fitted == size:
        return Geometry(whole, whole)
    rows, columns = covered(spec, logits_size, size)
    return Geometry(
        whole,
        np.array(fitted),
        before=np.array(offset),
        after=whole - np.array(fitted) - np.array(offset),
        first=np.array([rows.start, columns.start]),
        last=np.array([rows.stop, columns.stop]),
    )


def any_geometry(
    nodes: Nodes, frames: ir.Value, spec: InputSpec, logits_size: tuple[int, int]
) -> Geometry:
    """Of the frames (N, H, W, C) that the graph gets."""
    shape = nodes("Shape", frames)
    size = nodes("Slice", shape, np.array([1]), np.array([3]))
    whole, logits = np.array([spec.height, spec.width]), np.array(logits_size)
    if not spec.pads:
        return Geometry(size, whole)
    sides = nodes("Cast", size, to=ir.DataType.DOUBLE)
    scales = nodes("Div", whole.astype(np.float64), sides)
    rows, columns = nodes.several("Split", scales, np.array([1, 1]), outputs=2)
    scaled = nodes("Mul", sides, nodes("Min", rows, columns))
    blocks = nodes("Round", nodes("Div", scaled, np.float64(_BLOCK)))
    multiples = nodes("Mul", nodes("Cast", blocks, to=ir.DataType.INT64), np.int64(_BLOCK))
    fitted = nodes("Min", nodes("Max", multiples, np.int64(_BLOCK)), whole)
    empty = nodes("Sub", whole, fitted)
    before: Vector = np.zeros(2, np.int64)
    if spec.resize == "pad_centre":
        halved = nodes("Div", empty, np.int64(2 * _BLOCK))  # of positive numbers: rounds down
        before = nodes("Mul", halved, np.int64(_BLOCK))
    last = nodes("Add", fitted, before)
    return Geometry(
        size,
        fitted,
        before=before,
        after=nodes("Sub", empty, before),
        first=nodes("Div", nodes("Mul", before, logits), whole),
        last=nodes("Div", nodes("Mul", last, logits), whole),
    )


def resized(
    nodes: Nodes,
    maps: ir.Value,
    before: Vector | None,
    after: Vector,
    *,
    channels: int,
    channels_last: bool = False,
) -> ir.Value:
    """Maps (N, C, h, w), or with channels last, at the size `after`, bilinearly (half-pixel).

    Args:
        before: their size if it is constant, else None.
    """
    mode = {"mode": "linear", "coordinate_transformation_mode": "half_pixel"}
    if isinstance(after, np.ndarray) and isinstance(before, np.ndarray):
        if (before == after).all():
            return maps
        ends = (1, 1, *before), (1, 1, *after)
        scales = scales_between(*ends)
        if channels_last:
            scales = scales[[0, 2, 3, 1]]
        return nodes("Resize", maps, None, scales, **mode)
    batch = nodes("Slice", nodes("Shape", maps), np.array([0]), np.array([1]))
    count = np.array([channels])
    sizes = (batch, after, count) if channels_last else (batch, count, after)
    return nodes("Resize", maps, None, None, nodes("Concat", *sizes, axis=0), **mode)
