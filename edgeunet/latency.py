"""Measures latencies of several candidates in one run, so that their ratios are reliable."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping
from typing import TypeVar

Name = TypeVar("Name", bound=str)

WARM_UP, CALLS = 3, 5
"""Uncounted calls at the start of a block, and counted ones after them."""


def median_latencies(
    candidates: Mapping[Name, Callable[[], object]], *, rounds: int = 8
) -> dict[Name, float]:
    """Median milliseconds of a call, by candidate.

    The candidates take turns in blocks of a few calls, so that other load on the machine slows all
    of them. The first calls of a block do not count: the threads of the previous candidate keep
    spinning for a while.
    """
    seconds: dict[Name, list[float]] = {name: [] for name in candidates}
    for _ in range(rounds):
        for name, call in candidates.items():
            for count in range(WARM_UP + CALLS):
                started = time.perf_counter()
                call()
                if count >= WARM_UP:
                    seconds[name].append(time.perf_counter() - started)
    return {name: 1000 * statistics.median(times) for name, times in seconds.items()}
