"""How long to wait between tries."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass


@dataclass(frozen=True)
class Backoff:
    """Seconds before each try: from `first`, twice as long each time, at most `longest`."""

    first: float = 0.5
    longest: float = 30.0

    def delays(self) -> Iterator[float]:
        """The waits of one outage, without end."""
        delay = self.first
        while True:
            yield delay
            delay = min(2 * delay, self.longest)
