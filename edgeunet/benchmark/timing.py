"""Times calls in turns within a budget, and keeps every call for percentiles."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import TypeVar

from ..latency import WARM_UP

Name = TypeVar("Name", bound=str)

# Seconds of a call, beside which the threads of the previous candidate are soon quiet.
_SLOW, _VERY_SLOW = 0.1, 1.0
_LOST = 3.0  # times the fastest: a candidate that is no longer in the race gets fewer calls
_MOST = 60  # calls of a block


def sampled_latencies(
    candidates: Mapping[Name, Callable[[], object]],
    *,
    budget: float = 1.5,
    rounds: int = 5,
    first: Mapping[Name, float] | None = None,
) -> dict[Name, list[float]]:
    """Milliseconds of each counted call, by candidate, for percentiles; in turns, in blocks.

    In turns, so that other load on the machine slows all alike, and every other turn backwards, so
    that none always follows the same one. The first calls of a block do not count: the threads of
    the previous candidate keep spinning for a while.

    Args:
        budget: seconds for each candidate, of which a third goes to those three times slower than
            the fastest. One too slow for it gets two counted calls. One that is both so slow and
            takes a second or more gets one call alone.
        rounds: most blocks of a candidate.
        first: seconds of a call of each, see `first_seconds`, if they are known.

    Example:
        >>> from edgeunet.benchmark.timing import sampled_latencies
        >>> sorted(sampled_latencies({"sum": lambda: sum(range(9))}, budget=0.01))
        ['sum']
    """
    first = first or {name: first_seconds(call) for name, call in candidates.items()}
    fastest = min(first.values(), default=0.0)
    counts: dict[Name, tuple[int, int]] = {}  # blocks, and counted calls of each
    found: dict[Name, list[float]] = {}
    for name, spent in first.items():
        lost = spent > _LOST * fastest
        calls = budget / (3 if lost else 1) / max(spent, 1e-6)
        blocks = 0 if lost and spent >= _VERY_SLOW else max(2, min(rounds, round(calls / 2)))
        counted = max(1, min(_MOST, round(calls / max(blocks, 1)) - _warm_up(spent)))
        counts[name] = blocks, counted
        found[name] = [] if blocks else [spent]
    order = list(candidates.items())
    for turn in range(rounds):
        for name, call in order if turn % 2 == 0 else reversed(order):
            blocks, counted = counts[name]
            if turn < blocks:
                found[name] += _block(call, _warm_up(first[name]), counted)
    return {name: [1000 * each for each in times] for name, times in found.items()}


def first_seconds(call: Callable[[], object]) -> float:
    """Seconds of the fastest of a few calls; of one if that is slow. The first does not count.

    Engines compile in it, which takes them more than a second for some nets of 30 ms.
    """
    (spent,) = _block(call, 1, 1)
    return spent if spent > 3 * _SLOW else min(spent, *_block(call, 0, WARM_UP))


def _warm_up(spent: float) -> int:
    """Uncounted calls of a block, of a candidate that takes so many seconds."""
    return WARM_UP if spent < _SLOW else int(spent < _VERY_SLOW)


def _block(call: Callable[[], object], warm_up: int, counted: int) -> list[float]:
    """Seconds of each counted call."""
    seconds = []
    for count in range(warm_up + counted):
        started = time.perf_counter()
        call()
        if count >= warm_up:
            seconds.append(time.perf_counter() - started)
    return seconds
