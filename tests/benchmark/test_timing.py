"""Calls in turns, within a budget."""

from __future__ import annotations

import itertools
from collections import Counter

import pytest

from edgeunet.benchmark import timing
from edgeunet.benchmark.timing import sampled_latencies


class Clock:
    """Time that passes only in calls."""

    def __init__(self) -> None:
        self.now = 0.0
        self.calls: list[str] = []

    def taking(self, name: str, seconds: float) -> object:
        def call() -> None:
            self.calls.append(name)
            self.now += seconds

        return call


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(timing.time, "perf_counter", lambda: clock.now)
    return clock


def test_calls_take_turns_in_blocks_within_the_budget(clock: Clock) -> None:
    nets = {name: clock.taking(name, s) for name, s in (("a", 0.02), ("b", 0.03))}
    found = sampled_latencies(nets, budget=1.5)  # type: ignore[arg-type]
    assert {round(each) for each in found["a"]} == {20}
    assert {round(each) for each in found["b"]} == {30}
    blocks = [name for name, _ in itertools.groupby(clock.calls)]
    assert blocks == ["a", "b"] * 4, "one turn to see how long they take, then ab ba ab ba ab"
    spent = Counter(clock.calls)
    assert 1.2 < 0.02 * spent["a"] < 1.8
    assert len(found["a"]) < spent["a"], "the first calls of a block do not count"


def test_what_has_lost_gets_fewer_calls(clock: Clock) -> None:
    nets = {name: clock.taking(name, s) for name, s in (("fast", 0.1), ("lost", 0.4), ("far", 2))}
    found = sampled_latencies(nets, budget=2)  # type: ignore[arg-type]
    counts = Counter(clock.calls)
    assert counts["fast"] > 10
    assert 2 <= len(found["lost"]) <= 3
    assert (counts["far"], len(found["far"])) == (2, 1)
    assert [round(each) for each in found["far"]] == [2000]


def test_a_first_call_that_compiles_is_no_latency(clock: Clock) -> None:
    """OpenVINO took a second for the first of one net, and 34 ms for each that followed."""
    fast, other = clock.taking("fast", 0.03), clock.taking("other", 0.03)

    def compiling() -> None:
        if "fast" not in clock.calls:
            clock.now += 1.0
        fast()  # type: ignore[operator]

    found = sampled_latencies({"fast": compiling, "other": other})  # type: ignore[dict-item]
    assert {round(each) for each in found["fast"]} == {30}
    assert len(found["fast"]) > 10


def test_slow_ones_in_the_race_are_timed_twice(clock: Clock) -> None:
    nets = {name: clock.taking(name, s) for name, s in (("one", 3.0), ("other", 4.0))}
    assert [len(each) for each in sampled_latencies(nets).values()] == [2, 2]  # type: ignore[arg-type]
    first = {"one": 3.0, "other": 4.0}
    clock.calls.clear()
    sampled_latencies(nets, first=first)  # type: ignore[arg-type]
    assert clock.calls == ["one", "other", "other", "one"]
