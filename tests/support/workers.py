"""Workers of a benchmark without processes of their own, which take a second each."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from edgeunet.benchmark.entries import Entry
from edgeunet.benchmark.worker import Fresh
from edgeunet.runtime.frames import Batch


class HereWorker:
    """A `Worker` in this process, on the first batch only."""

    def __init__(self, entry: Entry, batch: int, frames: Path) -> None:
        self.fresh = Fresh(0.5, 100.0, 1.0)
        self.infers: list[float] = []
        self._segmenter = entry.open()
        found = list(np.load(frames))
        self._batch = (found * batch)[: 1 if entry.tiling else batch]

    def net(self) -> None:
        """As `Worker.net`."""
        self._segmenter.backend.net_alone(Batch.of(self._batch))()

    def whole(self) -> None:
        """As `Worker.whole`."""
        result = self._segmenter.backend.segment(Batch.of(list(self._batch)))
        self.infers.append(result.timings.infer)

    def close(self) -> None:
        """As `Worker.close`."""
        self._segmenter.close()
