"""How fast a run goes and when it will be over."""

from __future__ import annotations

import time

from .config import Progress


class Clock:
    """Rate and remaining time of a run, from when it began or was taken up.

    Args:
        done: share of the run that was over then. images: that the whole run sees.
    """

    def __init__(self, done: float, images: int) -> None:
        self._start, self._done, self._images = time.monotonic(), done, images

    def news(self, done: float, epoch: int, loss: float, miou: float | None = None) -> Progress:
        """Progress when a share `done` of the whole run is over."""
        passed, since = time.monotonic() - self._start, done - self._done
        rate = since * self._images / passed
        return Progress(done, epoch, loss, rate, (1 - done) * passed / since, miou)
