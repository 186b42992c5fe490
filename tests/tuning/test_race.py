"""Successive halving: equal training in each rung, within the time, and the best wins."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeunet.errors import UsageError
from edgeunet.tuning.journal import Journal
from edgeunet.tuning.race import Pace, Race, Runner, reserve
from edgeunet.tuning.space import Configuration
from edgeunet.tuning.survey import Survey
from support.tuning import SPACE, FakeLab

WIDEST = tuple(each for each in SPACE if each.width == 32)
"""One of each group; the first is the reference."""


def race_of(
    lab: FakeLab,
    contenders: tuple[Configuration, ...],
    *,
    budget: float = 600.0,
    most_epochs: int = 100,
) -> Race:
    works = {each: lab.work(each) for each in SPACE}
    found = Survey(works, SPACE[0], contenders=contenders)
    with TemporaryDirectory() as folder:
        path = Path(folder) / "tune.json"
    journal = Journal(path, {}, clock=lab.clock)
    return Race(found, lab, journal, budget=budget, most_epochs=most_epochs)


@given(st.integers(0, 999), st.integers(1, 6), st.floats(40, 4000), st.floats(0.05, 5))
def test_best_contender_wins_within_the_time(
    seed: int, count: int, budget: float, epoch: float
) -> None:
    lab = FakeLab(seed=seed, epoch=epoch)
    race = race_of(lab, WIDEST[-count:], budget=budget)
    try:
        ranking = race.run()
    except UsageError:
        assert budget - reserve(budget) < 2 * 2 * (1.1 * epoch + 0.5) + 2
        return
    ran = [each.configuration for each in ranking]
    assert ran == list(WIDEST[-count:])[: len(ran)] or set(ran) <= set(WIDEST[-count:])
    assert lab.best_miou(ran[0]) == max(lab.best_miou(each) for each in ran)
    race.finish(ranking[0])
    assert lab.seconds <= budget - reserve(budget)
    assert ranking[0].checkpoint is not None and ranking[0].final is not None
    for rung in range(max(len(each.rungs) for each in race.runners)):
        trained = [each for each in race.runners if len(each.rungs) > rung]
        assert len({each.lessons[: rung + 1] for each in trained}) == 1, "equally long"
        assert SPACE[0] in [*ran, *(each.configuration for each in trained)], "runs along"


def test_half_goes_on_until_one_is_left() -> None:
    lab = FakeLab()
    race = race_of(lab, WIDEST, most_epochs=10_000)
    ranking = race.run()
    assert [len(each.rungs) for each in ranking] == [3, 3, 2, 1, 1, 1]
    assert race.equal_epochs == ranking[0].lessons[0] > 0
    early = sorted(WIDEST, key=lab.best_miou, reverse=True)
    assert [each.configuration for each in ranking[:2]] == early[:2]
    spent = lab.seconds
    assert 0.4 < spent / (600 - reserve(600)) < 0.55, "half of the time"
    race.finish(ranking[0])
    assert 0.9 < lab.seconds / (600 - reserve(600)) <= 1.0
    assert race.drop(ranking[0]) == 0.0
    assert race.drop(ranking[1]) > 0.0


def test_drop_is_against_the_reference_too() -> None:
    lab = FakeLab(seed=3)
    contender = min(WIDEST, key=lab.best_miou)
    assert contender != SPACE[0]
    race = race_of(lab, (contender,))
    (only,) = race.run()
    expected = lab.best_miou(SPACE[0]) - lab.best_miou(contender)
    assert race.drop(only) == pytest.approx(expected)
    assert race.best_beside(only).configuration == SPACE[0]


def test_what_is_lost_is_seen_after_all_the_time_that_is_left() -> None:
    contender = min(WIDEST, key=lambda each: each.size)
    lab = FakeLab(seed=3, late=frozenset({contender.size}))
    race = race_of(lab, (contender,), most_epochs=10_000)
    (only,) = race.run()
    early = race.drop(only)
    race.extend(only)
    (beside,) = (each for each in race.runners if each is not only)
    assert only.lessons == beside.lessons and len(only.lessons) == 2
    assert race.drop(only) < early
    assert 0.9 < lab.seconds / (600 - reserve(600)) <= 1.0
    race.extend(only)
    assert len(only.lessons) == 2, "no time is left"


def test_reference_alone_needs_no_race() -> None:
    lab = FakeLab()
    race = race_of(lab, SPACE[:1])
    (only,) = race.run()
    assert (only.rungs, race.drop(only), race.equal_epochs) == ([], 0.0, 0)
    race.finish(only)
    assert only.final is not None
    assert lab.calls == ["pace", f"train {SPACE[0].key}/{only.epochs}"]


def test_most_epochs_hold_for_each_training() -> None:
    race = race_of(FakeLab(), WIDEST, most_epochs=2)
    ranking = race.run()
    race.finish(ranking[0])
    assert ranking[0].lessons == (2, 2, 2, 2)


def test_final_training_that_is_worse_is_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    lab = FakeLab()
    race = race_of(lab, WIDEST)
    best = race.run()[0]
    before = best.checkpoint, best.rungs[-1], best.epochs
    monkeypatch.setattr(FakeLab, "best_miou", lambda self, each: 10.0)
    assert race.finish(best) > 0
    assert (best.checkpoint, best.final, best.epochs) == before, "what it learned"


def test_budget_that_is_advised_is_enough() -> None:
    lab = FakeLab(epoch=30.0)
    with pytest.raises(UsageError) as caught:
        race_of(lab, WIDEST[-2:], budget=100.0).run()
    assert "an epoch takes up to 30s" in str(caught.value) or "31s" in str(caught.value)
    minutes, seconds = str(caught.value).split("--budget ")[1].split("s or")[0].split("m")
    assert race_of(FakeLab(epoch=30.0), WIDEST[-2:], budget=60 * int(minutes) + int(seconds)).run()


def test_pace() -> None:
    assert Pace(2.0, 3.0).seconds(4) == 14.0
    assert Runner(SPACE[0], Pace(1, 1), lessons=(2, 3)).epochs == 5
