"""Nets that run a graph, or the two parts of a gated one, whatever computes them."""

from __future__ import annotations

import threading
from abc import abstractmethod
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Generic, NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt

from edgeunet.bundle.bundle import BundleFile
from edgeunet.bundle.graphs import check_graph, read_graph
from edgeunet.bundle.manifest import Manifest
from edgeunet.errors import BundleError, UsageError

from ..frames import NetOutputs
from .base import CLOSED, Net
from .postprocess import open_classes

Arrays = list[npt.NDArray[Any]]
Graph = Path | bytes | BundleFile
Part = TypeVar("Part")
"""What runs one graph."""


class End(NamedTuple):
    """An input or output of a graph: its type, such as "tensor(float)", and its sides.

    A side that the graph leaves open is a word. No sides stand for an unknown rank.
    """

    type: str
    shape: Sequence[Any]


class PartedNet(Net, Generic[Part]):
    """A graph, or the encoder and the decoder of a gated one.

    If there are two parts, the decoder runs only for the frames whose gate leaves more than one
    class open.

    Args:
        first: the graph, or the encoder. decoder: the second part, None without one.
        gate: thresholds of the presence, None without a gate.
        lanes: batches of a stream that are computed at once.
        open_lane: opens the net for streams, when it is first needed; not called for one lane.
    """

    def __init__(
        self,
        first: Part,
        decoder: Part | None,
        *,
        gate: Sequence[float] | None,
        lanes: int,
        open_lane: Callable[[], PartedNet[Part]],
    ) -> None:
        self.lanes = lanes
        self._first: Part | None = first
        self._decoder, self._has_decoder = decoder, decoder is not None
        self._gate = gate
        self._open_lane = open_lane
        self._opening = threading.Lock()
        self._lane: PartedNet[Part] | None = None

    @abstractmethod
    def compute(self, part: Part, inputs: Arrays) -> Arrays:
        """All outputs of a part, in their order, for all its inputs, each of (N, …)."""

    @abstractmethod
    def ends_of(self, part: Part) -> tuple[Sequence[End], Sequence[End]]:
        """Inputs and outputs of a part."""

    def run(self, image: npt.NDArray[Any]) -> Arrays:
        """All outputs of the graph (of its first part if there are two), in their order."""
        return self.compute(opened(self._first), [image])

    def decode(self, features: Arrays) -> npt.NDArray[np.float32]:
        """Logits from the features of the first part."""
        return self.compute(opened(self._decoder), features)[0]

    @property
    def ends(self) -> tuple[Sequence[End], Sequence[End], Sequence[End] | None]:
        """Inputs and outputs of the first graph, and outputs of the decoder, None without one."""
        inputs, outputs = self.ends_of(opened(self._first))
        decoder = self._decoder
        return inputs, outputs, None if decoder is None else self.ends_of(decoder)[1]

    def lane(self) -> PartedNet[Part]:
        """See `Net`."""
        with self._opening:
            opened(self._first)
            if self.lanes == 1:
                return self
            if self._lane is None:
                self._lane = self._open_lane()
            return self._lane

    def close(self) -> None:
        """Free the parts, once the calls under way in other threads have ended."""
        with self._opening:
            lane, self._lane = self._lane, None
            self._first = self._decoder = None
        if lane is not None:
            lane.close()

    def infer(self, images: npt.NDArray[np.float32]) -> NetOutputs:
        """See `Net`."""
        first, *rest = self.run(images)
        if self._has_decoder:
            return NetOutputs(self.decode(rest), first)
        return NetOutputs(first, rest[0] if rest else None)

    def infer_gated(self, images: npt.NDArray[np.float32]) -> NetOutputs:
        """See `Net`."""
        if not self._has_decoder:
            return self.infer(images)
        presence, *features = self.run(images)
        undecided = np.flatnonzero(open_classes(presence, self._gate).sum(axis=1) > 1)
        if len(undecided) == len(images):
            return NetOutputs(self.decode(features), presence)
        _, _, decoded = self.ends
        if decoded is None:  # it was closed meanwhile
            raise UsageError(CLOSED)
        logits = np.zeros((len(images), *decoded[0].shape[1:]), np.float32)
        if len(undecided):
            logits[undecided] = self.decode([each[undecided] for each in features])
        return NetOutputs(logits, presence)

    def check(self, manifest: Manifest, *, name: str) -> None:
        """Raise BundleError if the graph's declared ends are not those that the manifest tells.

        Sides that the graph leaves open are not compared; `check_outputs` does that later.
        """
        spec, classes = manifest.input, len(manifest.classes)
        image = ("image", [None, len(spec.mean), spec.height, spec.width])
        logits = ("logits", [None, classes, *manifest.logits_size])
        presence = ("presence", [None, classes])
        inputs, outputs, decoded = self.ends
        ends = [(*image, inputs)]
        if decoded is not None:
            ends += [(*presence, outputs[:1]), (*logits, decoded)]
        else:
            ends.append((*logits, outputs[:1]))
            if manifest.gate is not None or len(outputs) > 1:
                ends.append((*presence, outputs[1:]))
        for what, wanted, found in ends:
            shown = [f"{each.type} {each.shape}" for each in found]
            if len(found) != 1 or not _fits(found[0], wanted):
                raise BundleError(
                    f"{name}: expected one {what} tensor(float) {wanted}, the graph has "
                    f"{', '.join(shown) or 'none'}. Export the bundle again."
                )


def opened(part: Part | None) -> Part:
    """The part; UsageError if its net was closed."""
    if part is None:
        raise UsageError(CLOSED)
    return part


def name_of(graph: Graph) -> str:
    """How errors call a graph."""
    return "the graph" if isinstance(graph, bytes) else str(getattr(graph, "path", graph))


def self_contained(graph: Graph) -> bytes:
    """The bytes of a graph, checked: whoever parses them finds no path to other files.

    Raises:
        GraphError: see `check_graph`. BundleError: a file that was changed.
    """
    if isinstance(graph, Path):
        return read_graph(graph)
    content = graph if isinstance(graph, bytes) else graph.read()
    check_graph(content, name=name_of(graph))
    return content


def rounded(values: npt.NDArray[Any], dtype: np.dtype[Any]) -> npt.NDArray[Any]:
    """FP32 values rounded to a type, in FP32; others as they are."""
    if values.dtype != np.float32 or dtype == np.float32:
        return values
    with np.errstate(over="ignore"):  # what FP16 cannot hold is infinite in an engine too
        return values.astype(dtype).astype(np.float32)


def _fits(end: End, wanted: Sequence[int | None]) -> bool:
    """Whether an input or output has this rank and these sides, as far as it names them."""
    pairs = zip(end.shape, wanted, strict=False)
    same = all(w is None or not isinstance(side, int) or side == w for side, w in pairs)
    return end.type == "tensor(float)" and len(end.shape) in (0, len(wanted)) and same
