"""The candidates are measured in turns."""

from __future__ import annotations

import time

from edgeunet.latency import CALLS, WARM_UP, median_latencies


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
