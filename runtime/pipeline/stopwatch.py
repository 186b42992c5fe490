"""How long a stage of a pipeline works."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np

# Number of laps that are kept for the percentiles; it limits memory.
_LAPS = 1000


@dataclass(frozen=True)
class StageReport:
    """Times of a stage so far.

    busy: seconds at work, the mean of its threads; decoding includes waiting for a camera.
    p50, p99: milliseconds per frame, of the last laps.
    """

    busy: float
    p50: float
    p99: float

    @property
    def quantiles(self) -> dict[str, float]:
        """p50 and p99, rounded for JSON."""
        return {"p50": round(self.p50, 3), "p99": round(self.p99, 3)}


class Stopwatch:
    """Adds up laps; one thread adds, any may read."""

    def __init__(self) -> None:
        self._busy = 0.0
        self._laps: deque[float] = deque(maxlen=_LAPS)

    def add(self, seconds: float, *, frames: int = 1, threads: int = 1) -> None:
        """Add a lap of some frames; `threads` threads made such laps in parallel."""
        self._busy += seconds / threads
        self._laps.append(seconds / frames)

    @contextmanager
    def lap(self) -> Iterator[None]:
        """Add the time of the block as a lap of one frame."""
        started = time.perf_counter()
        yield
        self.add(time.perf_counter() - started)

    def report(self) -> StageReport:
        """The times so far."""
        return self.joined([self])

    @staticmethod
    def joined(watches: Sequence[Stopwatch]) -> StageReport:
        """The times of several threads, each with its own watch, of which there is at least one."""
        laps = [lap for watch in watches for lap in list(watch._laps)] or [0.0]
        p50, p99 = (1000 * float(np.percentile(laps, p)) for p in (50, 99))
        return StageReport(sum(watch._busy for watch in watches) / len(watches), p50, p99)
