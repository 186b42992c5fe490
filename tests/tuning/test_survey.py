"""The survey: what is fast enough is found, and little is measured for it."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeunet.errors import UsageError
from edgeunet.tuning.journal import Journal
from edgeunet.tuning.survey import SHARE, Survey, survey
from edgeunet.tuning.target import ROOM, Target
from support.tuning import SPACE, FakeLab


def surveyed(lab: FakeLab, milliseconds: float, *, budget: float = 3600.0) -> Survey:
    with TemporaryDirectory() as folder:
        journal = Journal(Path(folder) / "tune.json", {}, clock=lab.clock)
        target = Target.parse(f"p50<={milliseconds:.4f}ms")
        return survey(SPACE, lab, journal, target, budget=budget)


def truly_fast(lab: FakeLab, milliseconds: float) -> set[str]:
    """Keys of the widest of each group that are fast enough."""
    widest: dict[object, tuple[int, str]] = {}
    for each in SPACE:
        if min(lab.true_times(each).values()) * ROOM <= milliseconds:
            widest[each.group] = max(widest.get(each.group, (0, "")), (each.width, each.key))
    return {key for _, key in widest.values()}


@given(st.integers(0, 999), st.floats(0.3, 6), st.sampled_from([0.0, 0.02, 0.05]))
def test_contenders_are_the_widest_that_are_fast_enough(
    seed: int, milliseconds: float, noise: float
) -> None:
    lab = FakeLab(seed=seed, noise=noise)
    found = surveyed(lab, milliseconds)
    assert {each.key for each in found.contenders} == truly_fast(lab, round(milliseconds, 4))
    assert set(found.fates) == set(SPACE) - set(found.contenders)
    assert len(set(lab.calls)) == len(lab.calls) == len(found.times)
    gflops = [found.works[each].gflops for each in found.contenders]
    assert gflops == sorted(gflops, reverse=True)


def test_most_are_predicted_and_predictions_are_checked() -> None:
    lab = FakeLab()
    found = surveyed(lab, 2.0)
    assert len(found.times) < len(SPACE) / 2
    assert "too slow (predicted)" in found.fates.values()
    assert found.misses
    assert max(map(abs, found.misses)) <= 0.1
    assert found.error < 0.2
    assert found.reference.key == "128x160-w32-full"
    exact = surveyed(FakeLab(noise=0.0), 2.0)
    assert max(map(abs, exact.misses)) < 1e-6


def test_nearest_is_the_fastest_of_all() -> None:
    lab = FakeLab()
    found = surveyed(lab, 0.1)
    assert found.contenders == ()
    assert found.nearest == min(SPACE, key=lambda each: min(lab.true_times(each).values()))


def test_wrong_model_drops_nothing() -> None:
    """Where work tells nothing of the time, everything is measured."""
    lab = FakeLab(noise=0.9, seed=4)
    found = surveyed(lab, 1.5)
    assert found.error > 0.6
    assert {each.key for each in found.contenders} == truly_fast(lab, 1.5)


@given(st.floats(1, 100))
def test_share_of_the_budget_holds(budget: float) -> None:
    lab = FakeLab()
    if SHARE * budget < 3:
        with pytest.raises(
            UsageError, match="is too short to measure anything: one conf"
        ) as caught:
            surveyed(lab, 2.0, budget=budget)
        assert "took 1 s, and 3 are needed. Pass --budget 12s or more" in str(caught.value)
        assert surveyed(FakeLab(), 2.0, budget=12.0).times, "what was advised is enough"
        return
    found = surveyed(lab, 2.0, budget=budget)
    assert 3 <= lab.seconds <= SHARE * budget
    if lab.seconds + 1 <= SHARE * budget:
        assert "no time to measure" not in found.fates.values()


def test_contenders_that_were_not_measured_for_lack_of_time_are_said() -> None:
    found = surveyed(FakeLab(), 2.0, budget=13.0)
    assert "no time to measure" in found.fates.values()
    assert all(each in found.times for each in found.contenders)


def test_steps_are_reported_once(tmp_path: Path) -> None:
    told: list[str] = []
    for _ in range(2):
        lab = FakeLab()
        journal = Journal(tmp_path / "tune.json", {}, clock=lab.clock)
        survey(SPACE, lab, journal, Target.parse("fps>=500"), budget=3600.0, report=told.append)
    assert told[0] == "measuring 128x160, width 32, decoder full"
    assert len(told) == len(set(told))


@pytest.mark.parametrize("count", [1, 2, 3])
def test_few_configurations_are_enough(count: int, tmp_path: Path) -> None:
    lab = FakeLab(SPACE[:count])
    journal = Journal(tmp_path / "tune.json", {}, clock=lab.clock)
    found = survey(SPACE[:count], lab, journal, Target.parse("fps>=1"), budget=60.0)
    assert found.contenders == SPACE[:1]
