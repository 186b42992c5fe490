"""How long stages are at work."""

from __future__ import annotations

import time

import pytest

from edgeunet.runtime.pipeline.stopwatch import StageReport, Stopwatch


def test_nothing_measured_is_zero() -> None:
    assert Stopwatch().report() == StageReport(0.0, 0.0, 0.0)


def test_laps_are_per_frame_and_work_per_thread() -> None:
    watch = Stopwatch()
    watch.add(0.4, frames=4, threads=2)
    watch.add(0.3)
    report = watch.report()
    assert report.busy == pytest.approx(0.2 + 0.3)
    assert report.p50 == pytest.approx((100 + 300) / 2)
    assert 290 < report.p99 < 300


def test_percentiles_are_of_the_last_laps_alone() -> None:
    watch = Stopwatch()
    for _ in range(10):
        watch.add(5.0)
    for _ in range(1000):
        watch.add(0.001)
    assert watch.report().p99 == pytest.approx(1)
    assert watch.report().busy == pytest.approx(51)


def test_a_block_is_a_lap_and_one_that_fails_is_none() -> None:
    watch = Stopwatch()
    with watch.lap():
        time.sleep(0.01)
    before = watch.report()
    assert before.busy >= 0.01
    with pytest.raises(ValueError, match="failed"), watch.lap():
        raise ValueError("failed")
    assert watch.report() == before
