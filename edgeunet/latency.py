"""Measures latencies of several candidates in one run, so that their ratios are reliable."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Hashable, Mapping
from typing import Generic, TypeVar

Name = TypeVar("Name", bound=str)
Key = TypeVar("Key", bound=Hashable)

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


_WARM_SECONDS, _BLOCK_SECONDS, _SLOW_SECONDS, _FEWEST_CALLS = 0.02, 0.03, 0.05, 2
_FEWEST_ROUNDS = 5
_FAR = (4.0, 1.6, 1.3, 1.15)
"""After so many rounds, what took so many times as long as the fastest in each of them leaves, by
blocks of its own that were quiet: whose slowest call took at most `_QUIET` times the fastest. A
busy machine may slow a whole block fourfold, but not all its calls alike."""
_QUIET = 1.25
_ERRORS, _LEAST_ERROR = 3.0, 0.003


class Race(Generic[Key]):
    """Times candidates in turns, until it is known which of them to use.

    Each candidate runs a block of calls when it is added, and one in each round. A block lasts for
    30 ms, and two calls at least, after 20 ms that do not count, in which the threads of the
    candidate before it come to rest. A call of 50 ms or more counts at once, so that a slow net
    runs twice a block. The fastest call of a block stands for it, since what disturbs a call makes
    it longer. Two candidates are compared by the median ratio of their blocks in a round, over the
    quietest quarter of the rounds, and five at least: load that lasts for a round slows both. That
    ratio is known to three times its standard error, which the median absolute deviation gives.

    The one to use is the fastest, or one of a better rank that takes at most `margin` times as
    long. Those that are known to be slower than that leave early.

    Args:
        rank: of a key; the lowest is the best.
        margin: factor in time that a better rank may cost.
        clock: seconds.

    Example:
        >>> from edgeunet.latency import Race
        >>> race = Race()
        >>> race.add("sum", lambda: sum(range(9)))
        >>> race.add("list", lambda: list(range(99999)))
        >>> race.run(seconds=1)
        >>> race.best
        'sum'
    """

    def __init__(
        self,
        *,
        rank: Callable[[Key], int] = lambda key: 0,
        margin: float = 1.0,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._calls: dict[Key, Callable[[], object]] = {}
        self._rank = rank
        self._margin = math.log(margin)
        self._clock = clock
        self._blocks: dict[Key, list[float]] = {}
        self._quiet: dict[Key, list[bool]] = {}
        self._running: list[Key] = []
        self._gone: dict[Key, float] = {}  # logarithm of the ratio to the fastest when it left

    def add(self, key: Key, call: Callable[[], object]) -> None:
        """Add a candidate and run its first block; all are added before `run`.

        Args:
            call: runs it once; what it raises is raised, and the candidate is not added.
        """
        seconds, quiet = self._block(call)
        self._blocks[key], self._quiet[key] = [seconds], [quiet]
        self._calls[key] = call
        self._running.append(key)

    def first_ratio(self, key: Key) -> float | None:
        """Factor of a candidate's first block to the fastest; None if it was not added."""
        if key not in self._blocks:
            return None
        return self._blocks[key][0] / max(_TICK, min(each[0] for each in self._blocks.values()))

    def run(
        self,
        *,
        seconds: float,
        within: float = 1.03,
        left: Callable[[Key], object] = lambda key: None,
        failed: Callable[[Key, Exception], object] | None = None,
    ) -> None:
        """Run rounds until `best` is known to be `within` of the fastest, for `seconds` at most.

        Each that stays runs two blocks in any case, if there is more than one candidate: slow ones
        take as long as that takes.

        Args:
            within: factor in time. left: called with each candidate that leaves. failed: called
                with each that raises, which is out and has no time; None: the error is raised. If
                all do, there is no `best`.
        """
        started = self._clock()
        while self._running:
            fastest = self._fastest
            for key in [key for key in self._running if self._is_out(key, fastest)]:
                self._running.remove(key)
                self._gone[key] = self._ratio(key, fastest)[0]
                left(key)
            late = self._rounds >= 2 and self._clock() - started >= seconds
            settled = self._rounds >= _FEWEST_ROUNDS and self._is_settled(math.log(within))
            if len(self._running) == 1 or late or settled:
                return
            self._run_round(failed)

    def _run_round(self, failed: Callable[[Key, Exception], object] | None) -> None:
        turn = self._rounds % len(self._running)  # nobody always follows the same
        for key in self._running[turn:] + self._running[:turn]:
            try:
                seconds, quiet = self._block(self._calls[key])
            except Exception as error:
                if failed is None:
                    raise
                failed(key, error)
                self._running.remove(key)
                del self._calls[key], self._blocks[key]
            else:
                self._blocks[key].append(seconds)
                self._quiet[key].append(quiet)

    @property
    def best(self) -> Key:
        """The candidate to use."""
        fastest = self._fastest
        near = [key for key in self._running if self._ratio(key, fastest)[0] <= self._margin]
        return min(near, key=lambda key: (self._rank(key), self._ratio(key, fastest)[0]))

    @property
    def milliseconds(self) -> dict[Key, float]:
        """Of a call: the median of the fastest one's blocks, and its multiple of the others."""
        fastest = self._fastest
        base = 1000 * statistics.median(self._blocks[fastest])
        logs = {key: self._ratio(key, fastest)[0] for key in self._running} | self._gone
        return {key: base * math.exp(logs[key]) for key in self._calls}

    @property
    def _rounds(self) -> int:
        return max(map(len, self._blocks.values()))

    @property
    def _fastest(self) -> Key:
        found = min(self._running, key=lambda key: statistics.median(self._blocks[key]))
        for _ in self._running:  # ratios of pairs from different rounds may contradict it
            faster = min(self._running, key=lambda key: self._ratio(key, found)[0])
            if self._ratio(faster, found)[0] >= 0:
                break
            found = faster
        return found

    def _block(self, call: Callable[[], object]) -> tuple[float, bool]:
        """Seconds of the fastest call, and whether the others were about as fast."""
        fastest, slowest, count = math.inf, 0.0, 0
        started = now = self._clock()
        while now - started < _WARM_SECONDS:
            before, now = now, (call(), self._clock())[1]
            if now - before >= _SLOW_SECONDS:
                fastest, slowest, count = now - before, now - before, 1
        started = now
        # Undisturbed calls fill the time: one that was disturbed does not stand for several.
        while count < _FEWEST_CALLS or (
            count * fastest < _BLOCK_SECONDS and now - started < 3 * _BLOCK_SECONDS
        ):
            before, now = now, (call(), self._clock())[1]
            fastest, slowest = min(fastest, now - before), max(slowest, now - before)
            count += 1
        return fastest, slowest <= _QUIET * fastest

    def _ratio(self, key: Key, other: Key) -> tuple[float, float]:
        """Logarithm of the ratio of two candidates' times, and how far off it may be."""
        pairs = zip(self._blocks[key], self._blocks[other], strict=False)
        quiet = sorted(pairs, key=lambda pair: pair[0] * pair[1])
        quiet = quiet[: max(_FEWEST_ROUNDS, math.ceil(len(quiet) / 4))]
        logs = [math.log(max(a, _TICK) / max(b, _TICK)) for a, b in quiet]
        middle = statistics.median(logs)
        deviation = 1.4826 * statistics.median([abs(log - middle) for log in logs])
        return middle, _ERRORS * max(_LEAST_ERROR, 1.25 * deviation / math.sqrt(len(logs)))

    def _is_out(self, key: Key, fastest: Key) -> bool:
        """Whether a candidate cannot be the best any more."""
        if self._rounds <= len(_FAR):
            far = _FAR[self._rounds - 1]
            pairs = zip(self._blocks[key], self._blocks[fastest], strict=True)
            return any(self._quiet[key]) and all(a > far * b for a, b in pairs)
        ratio, error = self._ratio(key, fastest)
        return ratio - error > self._margin

    def _is_settled(self, within: float) -> bool:
        """Whether none of those that run can be faster than the best by more than that."""
        best = self.best
        return all(sum(self._ratio(best, key)) <= within for key in self._running if key != best)


_TICK = 1e-9  # seconds; a clock may give the same time twice
