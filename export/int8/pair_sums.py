"""INT8 weights whose products no processor's 16-bit sums saturate on.

x86-64 processors without VNNI multiply unsigned activations with signed weights by an instruction
that adds the products of two neighbours in 16 bits, and saturates. ONNX Runtime's kernels for them
(MLAS: QgemmU8X8Kernel, QgemvU8S8Kernel and ConvSymKernel, for AVX2 and AVX-512) take the terms of a
sum in fours. In a convolution, with channels last or first, these run by kernel row, kernel column
and input channel of the group; in a matrix product by row. So if the weights at 2k and 2k + 1 of
that order add up to at most `LIMIT`, every processor computes the same.

oneDNN, which OpenVINO computes with, begins anew with each row and column of a kernel. For an even
number of input channels that makes the same pairs, for an odd one others.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from ..graphs.passes.graph import Array, attribute, constant, operand

Floats = npt.NDArray[np.float32]
Integers = npt.NDArray[np.int8]

LIMIT = 128
"""Largest sum of two neighbours: 255 * 128 fits in 16 bits, 255 * 129 does not. Weights of
different signs never leave them."""

_MOST = 127
_STRETCHES = (1.0, 0.94, 0.97, 1.03, 1.06)
"""Around the scale that is expected to be best: what rounding costs in fact, no formula says."""


def limit_pairs(
    model: ir.Model, nodes: Collection[str], *, onednn: bool = False
) -> dict[str, list[dict[str, Any]]]:
    """Round the weights of INT8 products to values of which no pair exceeds `LIMIT`.

    The weights become multiples of their scales, in which ONNX Runtime's quantizer finds the
    integers again.

    Args:
        nodes: names of the nodes that run in INT8.
        onednn: neither may the pairs that oneDNN makes.

    Returns:
        The quantizer's option TensorQuantOverrides: by weight, the scale of each output channel.
    """
    overrides: dict[str, list[dict[str, Any]]] = {}
    for node in model.graph:
        weight = operand(node, 1)
        values = constant(weight)
        if node.name not in nodes or weight is None or values is None:
            continue
        terms = terms_of(node, values)
        if terms is None or weight.name in overrides:  # shared weights are rounded already
            continue
        rounds = round_halves if onednn and _has_other_pairs(node, values) else round_pairs
        integers, scales = rounds(terms)
        rounded = integers * scales[:, None]
        if node.op_type == "MatMul":
            axis, held = 1, rounded.T
        else:
            axis, inputs = (0, 1) if node.op_type == "Conv" else (1, 0)
            sides = (values.shape[axis], *values.shape[2:], values.shape[inputs])
            held = np.moveaxis(rounded.reshape(sides), -1, 1).swapaxes(0, axis)
        weight.const_value = ir.tensor(np.ascontiguousarray(held), name=weight.name)
        overrides[str(weight.name)] = [
            {"axis": axis, "scale": scale, "zero_point": 0} for scale in scales
        ]
    return overrides


def terms_of(node: ir.Node, weight: Array) -> Array | None:
    """Weights of a product in the order in which ONNX Runtime sums them: (output channels, terms).

    None for what it does not sum in pairs: other nodes, and depthwise convolutions, whose kernels
    add in 32 bits.
    """
    terms: Array | None = None
    if node.op_type == "MatMul" and weight.ndim == 2:
        terms = weight.T
    elif node.op_type == "Conv" and weight.shape[:2] != (attribute(node, "group", 1), 1):
        terms = np.moveaxis(weight, 1, -1).reshape(len(weight), -1)
    elif node.op_type == "ConvTranspose" and attribute(node, "group", 1) == 1:
        terms = np.moveaxis(weight, 0, -1).reshape(weight.shape[1], -1)
    return terms


def largest_pair(terms: Array) -> int:
    """Largest sum of two neighbours, without its sign.

    Example:
        >>> largest_pair(np.int8([[100, -100, 5], [-90, -39, 127]]))
        129
    """
    return int(np.abs(_pairs(terms.astype(np.int32)).sum(-1)).max(initial=0))


def round_pairs(terms: Floats) -> tuple[Integers, Floats]:
    """Integers of which no pair exceeds `LIMIT`, with small squared errors in each channel.

    They are never larger than those of half the range, 7 bits, which keeps to the limit as well and
    doubles the error of most weights.

    Args:
        terms: (channels, terms), neighbours of which are summed in 16 bits.

    Returns:
        Integers from -127 to 127 of the same shape, and scales (channels,).

    Example:
        >>> integers, scales = round_pairs(np.float32([[1, 1, -1]]))
        >>> integers.tolist(), (1 / scales).round().tolist()
        ([[64, 64, -64]], [64.0])
    """
    pairs = _pairs(terms)
    start, least = _best_scales(pairs), _least_scales(pairs)
    integers = np.zeros(pairs.shape, np.float32)
    scales = np.ones(len(pairs), np.float32)
    errors = np.full(len(pairs), np.inf)
    for candidate in (*(start * np.float32(stretch) for stretch in _STRETCHES), 2 * least):
        tried = np.maximum(candidate, least)
        scaled = pairs / tried[:, None, None]
        rounded = project(scaled)
        found = np.square(rounded - scaled).sum(axis=(1, 2)) * np.square(tried, dtype=np.float64)
        better = found < errors
        errors[better], scales[better] = found[better], tried[better]
        integers[better] = rounded[better]
    width = terms.shape[1]
    return integers.reshape(len(pairs), -1)[:, :width].astype(np.int8), scales


def round_halves(terms: Floats) -> tuple[Integers, Floats]:
    """Integers of 7 bits, no two of which exceed `LIMIT`, whatever pairs they make.

    Args:
        terms: (channels, terms). Returns as `round_pairs`.

    Example:
        >>> round_halves(np.float32([[1, -0.5]]))[0].tolist()
        [[64, -32]]
    """
    scales = np.abs(terms).max(axis=1, initial=0) / np.float32(LIMIT // 2)
    scales = np.where(scales < np.finfo(np.float32).tiny, np.float32(1), scales)
    return np.rint(terms / scales[:, None]).astype(np.int8), scales


def _has_other_pairs(node: ir.Node, weight: Array) -> bool:
    """Whether oneDNN's pairs are others: of convolutions with an odd number of input channels.

    One channel has no partner there.
    """
    inputs = weight.shape[0 if node.op_type == "ConvTranspose" else 1]
    return weight.ndim == 4 and inputs % 2 == 1 and inputs > 1 and weight[0, 0].size > 1


def project(scaled: Floats) -> Floats:
    """The nearest integers (..., 2) of which no two neighbours exceed `LIMIT` together.

    Where plain rounding exceeds it, the nearest allowed point lies on its edge.
    """
    rounded: Floats = np.rint(scaled)
    sums = rounded.sum(-1)
    over = np.abs(sums) > LIMIT
    edge = np.copysign(LIMIT, sums[over])
    first = np.rint((scaled[over, 0] - scaled[over, 1] + edge) / 2)
    rounded[over] = np.stack([first, edge - first], axis=-1)
    return rounded


def _pairs(terms: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """(channels, terms) -> (channels, pairs, 2); an odd last one has 0 beside it."""
    return np.pad(terms, ((0, 0), (0, terms.shape[1] % 2))).reshape(len(terms), -1, 2)


def _least_scales(pairs: Floats) -> Floats:
    """Scales from which on no weight exceeds 127; 1 for channels without any."""
    least = np.abs(pairs).max(axis=(1, 2), initial=0) / np.float32(_MOST)
    usable: Floats = np.where(least < np.finfo(np.float32).tiny, np.float32(1), least)
    return usable


def _best_scales(pairs: Floats) -> Floats:
    """Scales (channels,) of the smallest squared error to be expected.

    A scale s costs s^2 / 12 for each weight that is rounded, and for each pair that is cut from
    its sum t to 128 s the half of (t - 128 s)^2. With the sums in descending order, the minimum
    with the first n cut is at s = 128 (t_1 + ... + t_n) / (weights / 6 + 128^2 n), and the
    right n is that of the largest such s: while t_n is above 128 s, it raises s.
    """
    sums = -np.sort(-np.abs(pairs.sum(-1, dtype=np.float64)), axis=1)
    rounded = np.count_nonzero(pairs, axis=(1, 2))[:, None]
    cut = np.arange(1, sums.shape[1] + 1)
    scales = LIMIT * sums.cumsum(axis=1) / (rounded / 6 + LIMIT**2 * cut)
    best: Floats = scales.max(axis=1, initial=0).astype(np.float32)
    return best
