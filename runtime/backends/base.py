"""The seam between the runtime and what computes: one class for each kind of device."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Generator, Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from ..bundle import Bundle
from ..closing import Closing
from ..pipeline import prefetch
from ..postprocess import Postprocessor, one_size
from ..preprocess import Frame, Preprocessor


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
    overrides `infer_gated`; one that keeps the pixels on its device `segment` and `stream`, whose
    defaults run pre- and post-processing on the host. All must give the same masks.
    """

    name: str

    def __init__(self, bundle: Bundle) -> None:
        self.bundle = bundle
        self.preprocess = Preprocessor(bundle.manifest.input)
        self.postprocess = Postprocessor(bundle.manifest.input, bundle.manifest.gate)

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

    def net_alone(self, images: npt.NDArray[np.float32]) -> Callable[[], object]:
        """A call to be timed: the net on (N, C, H, W), which is already where it computes."""
        return lambda: self.infer(images)

    def segment(self, frames: Sequence[Frame], *, confidence: bool = False) -> Result:
        """8-bit RGB frames of one size -> masks at that size."""
        return self._finish(self._run(self._prepare(frames)), confidence=confidence)

    def stream(self, batches: Iterable[Sequence[Frame]]) -> Generator[Result, None, None]:
        """`segment` for each batch in order, with several in flight.

        Preprocessing and inference have a thread each; post-processing is the caller's.
        """
        with (
            closing(prefetch(map(self._prepare, batches), depth=2)) as prepared,
            closing(prefetch(map(self._run, prepared), depth=2)) as outputs,
        ):
            yield from map(self._finish, outputs)

    def _prepare(self, frames: Sequence[Frame]) -> _Prepared:
        size = one_size(frames)
        started = time.perf_counter()
        images = self.preprocess(frames)
        return _Prepared(size, images, time.perf_counter() - started)

    def _run(self, prepared: _Prepared) -> _Inferred:
        started = time.perf_counter()
        outputs = self.infer_gated(prepared.images)
        return _Inferred(prepared, outputs, time.perf_counter() - started)

    def _finish(self, inferred: _Inferred, *, confidence: bool = False) -> Result:
        prepared, outputs, seconds = inferred
        started = time.perf_counter()
        masks = self.postprocess(outputs.logits, outputs.presence, prepared.size)
        sure = self.postprocess.confidence(*outputs, prepared.size) if confidence else None
        timings = Timings(prepared.seconds, seconds, time.perf_counter() - started)
        return Result(masks, outputs.presence, timings, sure)
