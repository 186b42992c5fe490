"""The seam between the runtime and what computes: one class for each kind of device."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import numpy as np
import numpy.typing as npt

from ..bundle import Bundle
from ..closing import Closing
from ..postprocess import Postprocessor, one_size
from ..preprocess import Frame, Preprocessor


class NetOutputs(NamedTuple):
    """logits: (N, C, h, w) FP32 at the net's resolution. presence: (N, C) FP32, None ungated."""

    logits: npt.NDArray[np.float32]
    presence: npt.NDArray[np.float32] | None


@dataclass(frozen=True)
class Timings:
    """Seconds that a batch spent in each stage."""

    preprocess: float
    infer: float
    postprocess: float


@dataclass(frozen=True)
class Result:
    """masks: (N, H, W) uint8 class ids at the frames' size. presence: (N, C), None ungated."""

    masks: npt.NDArray[np.uint8]
    presence: npt.NDArray[np.float32] | None
    timings: Timings


class Backend(Closing, ABC):
    """One net on one device; a context manager that frees what it holds.

    A backend implements `infer`. One that keeps the pixels on its device also overrides `segment`,
    whose default runs pre- and post-processing on the host; both must give the same masks.
    """

    name: ClassVar[str]

    def __init__(self, bundle: Bundle) -> None:
        self.bundle = bundle
        self.preprocess = Preprocessor(bundle.manifest.input)
        self.postprocess = Postprocessor(bundle.manifest.input, bundle.manifest.gate)

    @abstractmethod
    def infer(self, images: npt.NDArray[np.float32]) -> NetOutputs:
        """Run the net on (N, C, H, W), N at most the manifest's `max_batch`."""

    def segment(self, frames: Sequence[Frame]) -> Result:
        """8-bit RGB frames of one size -> masks at that size."""
        size = one_size(frames)
        started = time.perf_counter()
        images = self.preprocess(frames)
        prepared = time.perf_counter()
        outputs = self.infer(images)
        inferred = time.perf_counter()
        masks = self.postprocess(outputs.logits, outputs.presence, size)
        ended = time.perf_counter()
        timings = Timings(prepared - started, inferred - prepared, ended - inferred)
        return Result(masks, outputs.presence, timings)
