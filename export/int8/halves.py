"""Ranges whose sums in INT8 do not end on exact halves, which processors round differently."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx_ir as ir

from ..graphs.passes.graph import names
from .shared_ranges import Range

_WIDER = tuple(1.001**step for step in range(16))
_NEAR = 1e-4  # steps of the output: ten times what adding in FP32 may be off by
_FEW = 4 * _NEAR  # sums at any place between two steps are so near to a half in 2 of 10,000 cases


def avoid_halves(model: ir.Model, ranges: Mapping[str, Range]) -> dict[str, Range]:
    """The ranges; those of sums are up to 1.5 % wider where many would end on exact halves.

    In INT8 a sum is round(a * p + b * q), where a and b are bytes, and p and q the scales of the
    inputs divided by the sum's. If p and q are simple fractions, as 1/2, many sums end on a half.
    Then the order in which a processor multiplies and adds decides, and one level more or less
    is carried on through the net.

    Tensors of equal range stay equal. A range that a Clip ends is kept, since the Clip could no
    longer be dropped.
    """
    found = dict(ranges)
    clipped = {found.get(str(node.outputs[0].name)) for node in model.graph if _is(node, "Clip")}
    for node in model.graph:  # sorted, so that the inputs' ranges are final
        if not _is(node, "Add"):
            continue
        tensors = [*names(node.inputs), _rounded(node)]
        if not found.keys() >= set(tensors) or found[tensors[-1]] in clipped:
            continue
        low, high = old = found[tensors[-1]]
        best, fewest = old, np.inf
        for factor in _WIDER:
            wider = (low * factor, high * factor)
            share = _halves(*(wider if found[name] == old else found[name] for name in tensors))
            if share < fewest:
                best, fewest = wider, share
            if fewest <= _FEW:
                break
        found.update({name: best for name, each in found.items() if each == old})
    return found


def _is(node: ir.Node, kind: str) -> bool:
    return node.domain == "" and node.op_type == kind


def _rounded(add: ir.Node) -> str:
    """The tensor that is quantized: the sum, or what a Relu makes of it, which folds."""
    readers = [reader for reader, _ in add.outputs[0].uses()]
    alone = len(readers) == 1 and _is(readers[0], "Relu")
    return str((readers[0] if alone else add).outputs[0].name)


def _halves(first: Range, second: Range, total: Range) -> float:
    """Share of all pairs of bytes whose sum is near a half."""
    step = _scale(total)
    if step < np.finfo(np.float32).tiny:  # a sum that is always 0, or as good as
        return 0.0
    sums = np.add.outer(_values(first), _values(second)) / step
    return float(np.mean(np.abs(sums % 1 - 0.5) < _NEAR))


def _values(limits: Range) -> np.ndarray:
    """What the 256 bytes stand for."""
    scale = _scale(limits)
    zero = round(-limits[0] / scale) if scale else 0
    return (np.arange(256) - zero) * scale


def _scale(limits: Range) -> float:
    return (limits[1] - limits[0]) / 255
