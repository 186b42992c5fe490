"""The seam between the runtime and what computes: one class for each kind of device."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Generator, Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from edgeunet.bundle.bundle import Bundle

from ..frames import Frame, one_size
from ..pipeline.stage import Stage
from ..pipeline.stopping import Closing
from .postprocess import Postprocessor
from .preprocess import Preprocessor
from .smoothing import Smoother


class NetOutputs(NamedTuple):
    """logits: (N, C, h, w) FP32 at the net's resolution. presence: (N, C) FP32, None ungated."""

    logits: npt.NDArray[np.float32]
    presence: npt.NDArray[np.float32] | None


class _Prepared(NamedTuple):
    size: tuple[int, int]
    images: npt.NDArray[np.float32]
    seconds: float


class _Inferred(NamedTuple):
    prepared: _Prepared
    outputs: NetOutputs
    seconds: float


@dataclass(frozen=True)
class Timings:
    """Seconds that a batch spent in each stage."""

    preprocess: float
    infer: float
    postprocess: float


@dataclass(frozen=True)
class Result:
    """masks: (N, H, W) uint8 class ids at the frames' size. presence: (N, C), None ungated.

    confidence: (N, H, W) uint8, the softmax of each pixel's class among the open ones, 255 for 1;
    None where it was not asked for.
    """

    masks: npt.NDArray[np.uint8]
    presence: npt.NDArray[np.float32] | None
    timings: Timings
    confidence: npt.NDArray[np.uint8] | None = None


class Backend(Closing, ABC):
    """One net on one device; a context manager that frees what it holds.

    A backend implements `infer`. One that can spare the decoder where the gate is closed also
    overrides `infer_gated`; one that computes several batches faster at once than in turns
    `infer_in_lane`; one that keeps the pixels on its device `segment` and `stream`, whose defaults
    run pre- and post-processing on the host. All must give the same masks.

    lanes: batches of a stream that the net computes at once. smooths: its streams take a smoother.
    """

    name: str
    lanes: int = 1
    smooths: bool = True

    def __init__(self, bundle: Bundle) -> None:
        self.bundle = bundle
        self.preprocess = Preprocessor(bundle.manifest.input)
        self.postprocess = Postprocessor(bundle.manifest.input, bundle.manifest.gate)

    @property
    def untiled(self) -> Backend:
        """The backend that resizes frames to the net's input: itself, unless it cuts them."""
        return self

    @property
    def nets(self) -> tuple[Backend, ...]:
        """Backends that may answer in this one's place, each by a bundle of its own."""
        return (self,)

    @abstractmethod
    def infer(self, images: npt.NDArray[np.float32]) -> NetOutputs:
        """Run the net on (N, C, H, W), N at most the manifest's `max_batch`."""

    def infer_gated(self, images: npt.NDArray[np.float32]) -> NetOutputs:
        """`infer` for masks alone: logits may be missing (zeros) where the gate decides the mask.

        It does where it leaves at most one class open, see `Postprocessor`.
        """
        return self.infer(images)

    def infer_in_lane(self, images: npt.NDArray[np.float32]) -> NetOutputs:
        """`infer_gated` for a stream, which makes up to `lanes` such calls at once."""
        return self.infer_gated(images)

    def net_alone(self, images: npt.NDArray[np.float32]) -> Callable[[], object]:
        """A call to be timed: the net on (N, C, H, W), which is already where it computes."""
        return lambda: self.infer(images)

    def segment(self, frames: Sequence[Frame], *, confidence: bool = False) -> Result:
        """8-bit RGB frames of one size -> masks at that size."""
        inferred = self._run(self._prepare(frames), self.infer_gated)
        return self._finish(inferred, confidence=confidence)

    def stream(
        self, batches: Iterable[Sequence[Frame]], *, smoother: Smoother | None = None
    ) -> Generator[Result, None, None]:
        """`segment` for each batch in order, with several in flight.

        Each of the three steps has a thread of its own, the net as many as it has lanes.

        Args:
            smoother: what the logits go through, frame by frame.
        """

        def run(prepared: _Prepared) -> _Inferred:
            return self._run(prepared, self.infer_in_lane)

        def finish(inferred: _Inferred) -> Result:
            return self._finish(inferred, smoother=smoother)

        with (
            Stage(self._prepare, batches, depth=1, name="preprocess") as prepared,
            Stage(run, prepared, depth=1, name="infer", workers=self.lanes) as outputs,
            Stage(finish, outputs, depth=1, name="postprocess") as results,
        ):
            yield from results

    def _prepare(self, frames: Sequence[Frame]) -> _Prepared:
        size = one_size(frames)
        started = time.perf_counter()
        images = self.preprocess(frames)
        return _Prepared(size, images, time.perf_counter() - started)

    @staticmethod
    def _run(
        prepared: _Prepared, infer: Callable[[npt.NDArray[np.float32]], NetOutputs]
    ) -> _Inferred:
        started = time.perf_counter()
        outputs = infer(prepared.images)
        return _Inferred(prepared, outputs, time.perf_counter() - started)

    def _finish(
        self, inferred: _Inferred, *, confidence: bool = False, smoother: Smoother | None = None
    ) -> Result:
        prepared, outputs, seconds = inferred
        started = time.perf_counter()
        if smoother is not None:
            decided = self.postprocess.decided(outputs.presence, len(outputs.logits))
            logits = smoother(prepared.images, outputs.logits, decided=decided, size=prepared.size)
            outputs = NetOutputs(logits, outputs.presence)
        masks = self.postprocess(outputs.logits, outputs.presence, prepared.size)
        sure = self.postprocess.confidence(*outputs, prepared.size) if confidence else None
        timings = Timings(prepared.seconds, seconds, time.perf_counter() - started)
        return Result(masks, outputs.presence, timings, sure)
