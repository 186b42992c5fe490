"""How long a stage of a pipeline is at work."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np

# Percentiles are of the last so many laps, so that weeks take no more memory than minutes.
_LAPS = 1000


@dataclass(frozen=True)
class StageReport:
    """What a stage has taken so far.

    busy: seconds at work, the mean of its threads; decoding includes waiting for a camera. p50,
    p99: milliseconds a frame, of the last laps.
    """

    busy: float
    p50: float
    p99: float


class Stopwatch:
    """Adds up laps; one thread adds, any may read."""

    def __init__(self) -> None:
        self._busy = 0.0
        self._laps: deque[float] = deque(maxlen=_LAPS)

    def add(self, seconds: float, *, frames: int = 1, threads: int = 1) -> None:
        """Count a lap of some frames; `threads` made such laps side by side."""
        self._busy += seconds / threads
        self._laps.append(seconds / frames)

    @contextmanager
    def lap(self) -> Iterator[None]:
        """Count what the block takes as a lap of one frame."""
        started = time.perf_counter()
        yield
        self.add(time.perf_counter() - started)

    def report(self) -> StageReport:
        """What was measured so far."""
        laps = list(self._laps) or [0.0]
        p50, p99 = (1000 * float(np.percentile(laps, p)) for p in (50, 99))
        return StageReport(self._busy, p50, p99)
