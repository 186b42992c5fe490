"""The candidates are measured in turns."""

from __future__ import annotations

import math
import random
import time
from functools import partial
from itertools import count
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeunet.latency import CALLS, WARM_UP, Race, median_latencies


def test_candidates_take_turns_in_blocks() -> None:
    calls: list[str] = []
    candidates = {name: lambda name=name: calls.append(name) for name in ("one", "other")}
    assert set(median_latencies(candidates, rounds=2)) == {"one", "other"}
    block = WARM_UP + CALLS
    assert calls == (["one"] * block + ["other"] * block) * 2


def test_latency_is_the_median_in_milliseconds_without_the_warm_up() -> None:
    # Slow while it warms up, and once more: neither counts.
    waits = iter([0.2, 0.001, 0.001, 0.01, 0.2, 0.01, 0.01, 0.01])
    found = median_latencies({"net": lambda: time.sleep(next(waits))}, rounds=1)
    assert 10 <= found["net"] < 100


class NoisyClock:
    """Made-up candidates on a busy machine: calls vary, are disturbed alone or for a while."""

    def __init__(self, latencies: dict[str, float], seed: int | None) -> None:
        """Without a seed there is no noise."""
        self.now = 0.0
        self._latencies, self._random = latencies, random.Random(seed)
        self._noisy, self._busy, self._until = seed is not None, False, 0.0

    def __call__(self) -> float:
        return self.now

    def run(self, name: str) -> None:
        draw = self._random
        if self.now >= self._until:
            self._busy = not self._busy
            self._until = self.now + draw.expovariate(1 / 0.3)
        noise = math.exp(draw.gauss(0, 0.02)) * (draw.uniform(1.3, 2.5) if self._busy else 1)
        noise *= draw.uniform(1.3, 3) if draw.random() < 0.1 else 1
        self.now += self._latencies[name] * (noise if self._noisy else 1)


def raced(clock: NoisyClock, latencies: dict[str, float], **settings: Any) -> Race[str]:
    race = Race[str](clock=clock, margin=1.02, **settings)
    for name in latencies:
        race.add(name, partial(clock.run, name))
    race.run(seconds=6)
    return race


@given(
    base=st.floats(0.004, 0.03),
    factors=st.lists(
        st.sampled_from([1, 1.01, 1.03, 1.08, 1.15, 1.5, 3, 8]), min_size=1, max_size=6
    ),
    seed=st.integers(0, 99),
)
@settings(max_examples=20, derandomize=True)
def test_under_noise_nothing_is_chosen_that_is_slower_by_more_than_5_percent(
    base: float, factors: list[float], seed: int
) -> None:
    latencies = {f"{index}": base * factor for index, factor in enumerate(factors)}
    clock = NoisyClock(latencies, seed)
    race = raced(clock, latencies, rank=int)
    assert latencies[race.best] <= 1.05 * min(latencies.values())
    assert clock.now < 8
    times = race.milliseconds
    assert times.keys() == latencies.keys()
    assert times[race.best] <= 1.02 * min(times.values()) + 1e-9


@pytest.mark.parametrize(("factor", "best"), [(1.015, "close"), (1.025, "fast")])
def test_a_better_rank_wins_only_within_the_margin(factor: float, best: str) -> None:
    latencies = {"close": 0.01 * factor, "fast": 0.01}
    rank = ["close", "fast"].index
    assert raced(NoisyClock(latencies, None), latencies, rank=rank).best == best


def test_what_is_far_slower_leaves_after_a_round_and_one_alone_is_not_timed_again() -> None:
    latencies = {"fast": 0.01, "slow": 0.5}
    clock, left = NoisyClock(latencies, 0), list[str]()
    race = Race[str](clock=clock)
    for name in latencies:
        race.add(name, partial(clock.run, name))
    race.run(seconds=6, left=left.append)
    assert (race.best, left) == ("fast", ["slow"])
    assert clock.now < 5, "one round"


def test_what_fails_meanwhile_is_out() -> None:
    latencies = {"fast": 0.01, "slow": 0.013, "slower": 0.014}
    clock, calls = NoisyClock(latencies, None), count()

    def fails() -> None:
        clock.run("fast")
        if next(calls) > 7:
            raise RuntimeError("the device was lost")

    def race() -> Race[str]:
        race = Race[str](clock=clock)
        race.add("fast", fails)
        for name in ("slow", "slower"):
            race.add(name, partial(clock.run, name))
        return race

    failed = list[str]()
    first = race()
    first.run(seconds=6, failed=lambda name, error: failed.append(f"{name}: {error}"))
    assert failed == ["fast: the device was lost"]
    assert (first.best, first.milliseconds.keys()) == ("slow", {"slow", "slower"})
    with pytest.raises(RuntimeError, match="lost"):
        race().run(seconds=6)


class Steps:
    """A clock that calls move on by the given seconds, and the number of calls."""

    def __init__(self, *seconds: float) -> None:
        self._seconds, self.now, self.calls = list(seconds), 0.0, 0

    def __call__(self) -> float:
        return self.now

    def run(self) -> None:
        self.now += self._seconds[min(self.calls, len(self._seconds) - 1)]
        self.calls += 1


@pytest.mark.parametrize(
    ("seconds", "calls"),
    [((0.5,), 2), ((0.011,), 2 + 3), ((0.03,), 1 + 2), ((0.2, 0.01), 1 + 2)],
    ids=["slow", "fast", "between", "disturbed"],
)
def test_a_block_of_a_slow_net_has_two_calls(seconds: tuple[float, ...], calls: int) -> None:
    clock = Steps(*seconds)
    race = Race[str](clock=clock)
    race.add("net", clock.run)
    assert clock.calls == calls
    assert race.milliseconds["net"] == pytest.approx(1000 * min(seconds))


def test_the_first_ratio_is_to_the_fastest_so_far() -> None:
    clock = NoisyClock({"slow": 0.03, "fast": 0.01}, None)
    race = Race[str](clock=clock)
    for name, ratio in (("slow", 1), ("fast", 3)):
        race.add(name, partial(clock.run, name))
        assert race.first_ratio("slow") == pytest.approx(ratio)
    assert race.first_ratio("absent") is None
