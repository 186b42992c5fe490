"""Scales channels of feature maps against each other, so that one range fits all of a map."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from edgeunet.bundle.manifest import InputSpec
from edgeunet.runtime.backends.ort import OrtNet
from edgeunet.runtime.backends.preprocess import Preprocessor
from edgeunet.runtime.frames import Frame

from ..graphs.passes.graph import (
    Array,
    attribute,
    constant,
    load,
    operand,
    producer,
    save,
    set_constant,
)

ROUNDS = 16
"""Of the search for factors: each one changes what the others should be."""

LARGEST = 2.0**8
"""Factor of a channel, or its inverse."""

HEADROOM = 1.25
"""Share of its peak that a channel may reach on other frames before its Clip cuts it."""

_CLAMPS = ("Clip", "LeakyRelu", "PRelu", "Relu")
_PASSES = (
    *("AveragePool", "GlobalAveragePool", "GlobalMaxPool", "Identity", "LeakyRelu", "MaxPool"),
    *("PRelu", "Relu", "Resize"),
)
"""Operators that put out a scaled channel for a scaled one, each channel by itself."""

_SMALLEST = 1e-6  # shares below are not made larger


def equalise(source: Path, path: Path, frames: Sequence[Frame], spec: InputSpec) -> bool:
    """Write a graph that computes the same, in whose maps all channels are about equally large.

    The levels of a range are as fine as its largest channel allows, and a small channel has few of
    them. So it is multiplied by a factor, and the weights that read it are divided by that. What
    lies between must let factors through: Relu, pooling, sums and Concats do, HardSwish and SiLU do
    not. Nagel et al., "Data-Free Quantization Through Weight Equalization and Bias Correction"
    (ICCV 2019, arXiv 1906.04721), section 4.1. What differs: weights have a scale for each output
    channel here, so a channel is balanced against the weights that read it, as by Xiao et al.,
    "SmoothQuant" (ICML 2023, arXiv 2211.10438), section 4. Maps that meet in a sum or a Concat
    share the factors of their channels.

    A channel that reaches the end of its Clip on the frames stays as it is. On other frames, a Clip
    may cut a scaled channel from `HEADROOM` times its peak on.

    Args:
        source: reference graph. path: of the new one. frames: fitted to the net.

    Returns:
        Whether a channel has a factor. If none has, nothing is written.
    """
    model = load(source)
    channels = _Channels(model.graph)
    factors = _factors(channels, _peaks(source, channels, frames, spec))
    if np.all(factors == 1):
        return False
    for conv in channels.convolutions:
        weight = conv.weight * conv.by_output(factors[channels.of(conv.node.outputs[0])])
        weight = weight / conv.by_input(factors[channels.of(conv.node.inputs[0])])
        set_constant(conv.node, 1, weight.astype(np.float32))
        bias = constant(operand(conv.node, 2))
        if bias is not None:
            scaled = bias * factors[channels.of(conv.node.outputs[0])]
            set_constant(conv.node, 2, scaled.astype(np.float32))
    save(model, path)
    return True


Ids = npt.NDArray[np.intp]


@dataclass(frozen=True)
class _Convolution:
    """A Conv or ConvTranspose with constant weights."""

    node: ir.Node
    weight: Array

    def by_output(self, values: Array) -> Array:
        """Values of the output channels, as they lie in the weight."""
        transposed = self.node.op_type == "ConvTranspose"
        return self._grouped(values) if transposed else self._along(values)

    def by_input(self, values: Array) -> Array:
        """Values of the input channels, as they lie in the weight."""
        transposed = self.node.op_type == "ConvTranspose"
        return self._along(values) if transposed else self._grouped(values)

    def shares(self, factors: Array) -> Array:
        """How large the weights of input channels are, of the largest that share a scale; 0..1.

        Args:
            factors: of the input channels.
        """
        sizes = np.abs(self.weight / self.by_input(factors))
        sizes = sizes.reshape(*sizes.shape[:2], -1).max(2)
        grouped = sizes.reshape(self._groups, -1, sizes.shape[1])  # (group, first axis, second)
        if self.node.op_type == "ConvTranspose":
            grouped = grouped.transpose(0, 2, 1)
        largest = grouped.max(2, keepdims=True)
        shares: Array = (grouped / np.where(largest > 0, largest, 1)).max(1).ravel()
        return shares

    @property
    def _groups(self) -> int:
        return int(attribute(self.node, "group", 1))

    def _along(self, values: Array) -> Array:
        """Along the first axis."""
        return values.reshape(-1, *(1,) * (self.weight.ndim - 1))

    def _grouped(self, values: Array) -> Array:
        """Along the second axis, which has the channels of one group."""
        of_group = values.reshape(self._groups, 1, -1)
        each = np.repeat(of_group, self.weight.shape[0] // self._groups, axis=1)
        return each.reshape(*self.weight.shape[:2], *(1,) * (self.weight.ndim - 2))


class _Channels:
    """The channels of all maps of a graph, numbered; those that need one factor have one number.

    maps: with known channels. convolutions: between which factors may change. caps: maps that a
    Clip ends, and where. held: numbers of channels that stay as they are.
    """

    def __init__(self, graph: ir.Graph) -> None:
        self.convolutions: list[_Convolution] = []
        self.caps: list[tuple[ir.Value, float]] = []
        self._parents: list[int] = []
        self._ids: dict[ir.Value, Ids] = {}
        self._held: list[Ids] = []
        for node in graph:
            self._add(node)
        self._hold(graph.outputs)
        # Branches of an If and bodies of loops read maps of the graph around them.
        self._hold([v for v in self._ids if any(r.graph is not graph for r in v.consumers())])

    @property
    def maps(self) -> list[ir.Value]:
        return list(self._ids)

    @property
    def held(self) -> Ids:
        return self._roots(np.concatenate([np.empty(0, np.intp), *self._held]))

    def __len__(self) -> int:
        return len(self._parents)

    def of(self, value: ir.Value | None) -> Ids:
        """Numbers of a map's channels."""
        assert value is not None
        return self._roots(self._ids[value])

    def _add(self, node: ir.Node) -> None:
        """Number what a node puts out."""
        read = [value for value in node.inputs if value is not None and value.const_value is None]
        ids = [self._known(value) for value in read]
        channels = _channels_of(node.outputs[0])
        known = [each for each in ids if each is not None]
        found = self._passed(node, read, known) if channels and len(known) == len(ids) else None
        if found is None or len(found) != channels:
            self._hold(read)
            self._hold(node.outputs)
        else:
            self._ids[node.outputs[0]] = found

    def _passed(self, node: ir.Node, read: Sequence[ir.Value], ids: Sequence[Ids]) -> Ids | None:
        """Numbers of what a node puts out, None if factors do not pass it."""
        weight = constant(operand(node, 1))
        if node.op_type in ("Conv", "ConvTranspose") and weight is not None and len(ids) == 1:
            self.convolutions.append(_Convolution(node, weight))
            return self._new(_channels_of(node.outputs[0]))
        if node.op_type == "Concat" and attribute(node, "axis", 1) == 1:
            return np.concatenate(ids)
        if node.op_type == "Add" and len(ids) == 2 and len(ids[0]) == len(ids[1]):
            for one, other in zip(*ids, strict=True):
                self._parents[self._root(one)] = self._root(other)
            return ids[0]
        if node.op_type == "Mul" and len(ids) == 2:  # with a gate, whose own channels are held
            gates = [producer(value, "Sigmoid", "HardSigmoid") is not None for value in read]
            return ids[gates.index(False)] if sum(gates) == 1 else None
        if len(ids) == 1 and node.op_type == "Clip" and (cap := _cap(node)) is not None:
            self.caps.append((node.outputs[0], cap))
            return ids[0]
        return ids[0] if len(ids) == 1 and (node.op_type in _PASSES or _pads_zeros(node)) else None

    def _known(self, value: ir.Value) -> Ids | None:
        if value not in self._ids and _channels_of(value):  # such as the image
            self._hold([value])
        return self._ids.get(value)

    def _hold(self, values: Iterable[ir.Value]) -> None:
        for value in values:
            channels = _channels_of(value)
            if value not in self._ids and channels:
                self._ids[value] = self._new(channels)
            if value in self._ids:
                self._held.append(self._ids[value])

    def _new(self, count: int) -> Ids:
        start = len(self._parents)
        self._parents.extend(range(start, start + count))
        return np.arange(start, start + count)

    def _root(self, index: int) -> int:
        while self._parents[index] != index:
            index = self._parents[index]
        return index

    def _roots(self, ids: Ids) -> Ids:
        return np.array([self._root(index) for index in ids], np.intp)


def _channels_of(value: ir.Value) -> int:
    """Channels of a map (N, C, H, W), 0 for anything else."""
    if value.shape is None or len(value.shape) != 4 or not isinstance(value.shape[1], int):
        return 0
    return value.shape[1]


def _cap(clip: ir.Node) -> float | None:
    """Where a Clip from 0 ends, None for others."""
    low, high = constant(operand(clip, 1)), constant(operand(clip, 2))
    return float(high) if low is not None and high is not None and low == 0 else None


def _pads_zeros(node: ir.Node) -> bool:
    value = operand(node, 2)
    filled = constant(value)
    zeros = value is None or (filled is not None and not filled.any())
    return node.op_type == "Pad" and attribute(node, "mode", "constant") == "constant" and zeros


Peaks = Mapping[ir.Value, Array]


def _peaks(source: Path, channels: _Channels, frames: Sequence[Frame], spec: InputSpec) -> Peaks:
    """Largest magnitude of each channel of the maps that nodes compute."""
    model = load(source)
    maps = [value for value in channels.maps if value.producer() is not None]
    inside = {value.name: value for node in model.graph for value in node.outputs}
    outputs = []
    for value in maps:
        size = ir.node("Abs", [inside[value.name]])
        peak = ir.node("ReduceMax", size.outputs, {"axes": [0, 2, 3], "keepdims": 0})
        size.outputs[0].name, peak.outputs[0].name = f"{value.name}::size", f"{value.name}::peak"
        peak.outputs[0].type = ir.TensorType(ir.DataType.FLOAT)
        model.graph.extend([size, peak])
        outputs.append(peak.outputs[0])
    model.graph.outputs[:] = outputs
    net, prepare = OrtNet(ir.to_proto(model).SerializeToString()), Preprocessor(spec)
    seen = [net.run(prepare([frame])) for frame in frames]
    return {value: np.max(each, axis=0) for value, *each in zip(maps, *seen, strict=True)}


def _factors(channels: _Channels, peaks: Peaks) -> Array:
    """A factor for each number of a channel.

    It is the root of how large the weights are that read a channel, of those beside them, by how
    large the channel is in its maps.
    """
    free, most = np.ones(len(channels), bool), np.full(len(channels), LARGEST)
    free[channels.held] = False
    for value, cap in channels.caps:
        ids, room = channels.of(value), cap / (HEADROOM * np.maximum(peaks[value], _SMALLEST * cap))
        np.minimum.at(most, ids, np.maximum(room, 1))
        free[ids[peaks[value] >= cap]] = False
    quantized = [
        (channels.of(value), peak)
        for value, peak in peaks.items()
        if not {reader.op_type for reader in value.consumers()}.issubset(_CLAMPS)
    ]
    read = [(conv, channels.of(conv.node.inputs[0])) for conv in channels.convolutions]
    factors = np.ones(len(channels))
    for _ in range(ROUNDS):
        sizes, shares = np.zeros(len(channels)), np.zeros(len(channels))
        for ids, peak in quantized:
            scaled = peak * factors[ids]
            np.maximum.at(sizes, ids, scaled / (scaled.max() or 1.0))
        for conv, ids in read:
            np.maximum.at(shares, ids, conv.shares(factors[ids]))
        moved = free & (sizes > _SMALLEST) & (shares > _SMALLEST)
        step = np.sqrt(shares / np.maximum(sizes, _SMALLEST))
        factors = np.where(moved, np.clip(factors * step, 1 / LARGEST, most), factors)
    return factors
