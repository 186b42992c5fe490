"""Whole searches in a world where everything is known."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from edgeunet.errors import UsageError
from edgeunet.tuning.journal import Journal
from edgeunet.tuning.outcome import Outcome, precision_of
from edgeunet.tuning.race import SHARE
from edgeunet.tuning.search import Request, Written, search
from edgeunet.tuning.space import Configuration
from edgeunet.tuning.target import ROOM, Target
from support.tuning import SPACE, WAYS, FakeLab, Killed

BY_KEY = {each.key: each for each in SPACE}


def request(target: str = "p50<=2ms", **known: float) -> Request:
    given_ = {"max_drop": 100.0, "budget": 3600.0, "most_epochs": 100, **known}
    return Request("mobile_unet", "cells", Target.parse(target), **given_)  # type: ignore[arg-type]


def found(lab: FakeLab, wanted: Request, path: Path | None = None) -> Outcome:
    with TemporaryDirectory() as folder:
        journal = Journal(path or Path(folder) / "tune.json", {}, clock=lab.clock)
        return search(wanted, SPACE, lab, journal)


def fast_enough(lab: FakeLab, milliseconds: float) -> list[Configuration]:
    return [e for e in SPACE if min(lab.true_times(e).values()) * ROOM <= milliseconds]


@given(st.integers(0, 999), st.floats(0.5, 6), st.floats(30, 20000), st.floats(0.01, 20))
def test_choice_holds_the_target_and_none_better_was_dropped(
    seed: int, milliseconds: float, budget: float, epoch: float
) -> None:
    lab = FakeLab(seed=seed, epoch=epoch)
    wanted = request(f"p50<={milliseconds:.3f}ms", budget=budget)
    try:
        outcome = found(lab, wanted)
    except UsageError:  # its words are those of survey and race
        assert budget < 30 + 8 * epoch / SHARE
        return
    assert outcome.spent == lab.seconds <= budget
    fast = fast_enough(lab, outcome.milliseconds)
    if outcome.chosen is None:
        no_time = [each for each in outcome.tried if "no time" in each.fate]
        assert not fast or no_time or "No time was left" in " ".join(outcome.notes)
        return
    chosen = BY_KEY[outcome.chosen.key]
    assert lab.true_times(chosen)[outcome.chosen.way] <= outcome.milliseconds
    assert outcome.chosen.milliseconds == lab.true_times(chosen)[outcome.chosen.way]
    fates = {each.key: each.fate for each in outcome.tried}
    if budget > 600 and epoch < 1:
        assert not any("no time" in fate for fate in fates.values())
    for each in fast:
        fate = fates.get(each.key, "no time")
        if fate.startswith("narrower than "):  # then that one decides
            fate = fates[fate.split()[-1]]
        if "no time" not in fate:
            assert lab.best_miou(each) <= lab.best_miou(chosen)
    if budget > 600 and epoch < 1:
        assert lab.best_miou(chosen) == max(lab.best_miou(each) for each in fast)


@given(st.integers(0, 99), st.floats(0.7, 4), st.floats(0, 8))
def test_points_that_may_be_lost(seed: int, milliseconds: float, max_drop: float) -> None:
    lab = FakeLab(seed=seed)
    outcome = found(lab, request(f"p50<={milliseconds:.3f}ms", max_drop=max_drop))
    fast = fast_enough(lab, outcome.milliseconds)
    assume(fast)
    best = max(map(lab.best_miou, fast))
    lost = max(0.0, lab.best_miou(SPACE[0]) - best)
    assume(abs(lost - max_drop) > 1e-6)
    assert (outcome.chosen is not None) == (lost <= max_drop)
    if outcome.chosen is None:
        assert f"{lost:.2f} points below 128x160, width 32, decoder full" in outcome.why
        assert "are allowed" in outcome.why and "Pass --max-drop" in outcome.why


def test_nets_that_learn_late_are_not_judged_by_their_first_epochs() -> None:
    large, small = BY_KEY["128x160-w32-full"], BY_KEY["64x64-w32-light"]
    lab = FakeLab((large, small), 6, late=frozenset({small.size}))
    lost = lab.best_miou(large) - lab.best_miou(small)
    limit = f"p50<={1.1 * min(lab.true_times(small).values()):.3f}ms"
    wanted = request(limit, max_drop=lost + 1.0, budget=90.0)
    with TemporaryDirectory() as folder:
        journal = Journal(Path(folder) / "tune.json", {}, clock=lab.clock)
        outcome = search(wanted, (large, small), lab, journal)
    assert outcome.chosen is not None and outcome.chosen.key == small.key
    rungs = {each.key: each.rungs for each in outcome.tried}
    early, late = (a - b for a, b in zip(rungs[large.key], rungs[small.key], strict=True))
    assert late <= wanted.max_drop < early


def test_search_that_was_killed_at_any_step_comes_to_the_same(tmp_path: Path) -> None:
    wanted = request("p50<=1.2ms")
    first = found(FakeLab(), wanted).chosen
    assert first is not None
    whole = FakeLab(failing=frozenset({(first.key, "int8")}))
    expected = found(whole, wanted)
    assert expected.chosen is not None and expected.notes
    assert len(whole.calls) > 15
    for number in range(1, len(whole.calls) + 1):
        path = tmp_path / f"{number}.json"
        broken = replace(whole, kill_at=number, calls=[], seconds=0.0)
        with pytest.raises(Killed):
            found(broken, wanted, path)
        resumed = replace(whole, calls=[], seconds=0.0)
        assert found(resumed, wanted, path) == expected
        assert resumed.calls == whole.calls[number - 1 :], "nothing is done twice"


def test_finished_search_does_nothing_again_and_another_target_uses_it(tmp_path: Path) -> None:
    path, lab = tmp_path / "tune.json", FakeLab()
    first = found(lab, request(), path)
    idle = FakeLab()
    assert found(idle, request(), path) == first
    assert idle.calls == []
    other = FakeLab()
    again = found(other, request("p50<=1ms", budget=4000.0), path)
    assert again == found(FakeLab(), request("p50<=1ms", budget=4000.0))
    assert not set(other.calls) & set(lab.calls)
    assert len([c for c in other.calls if "times" in c]) < len([c for c in lab.calls if "t" in c])


def test_nearest_is_named_if_nothing_is_fast_enough() -> None:
    lab = FakeLab()
    outcome = found(lab, request("p50<=0.1ms"))
    nearest = min(SPACE, key=lambda each: min(lab.true_times(each).values()))
    ms = min(lab.true_times(nearest).values())
    assert outcome.chosen is None
    assert f"The nearest is {nearest.title} on openvino INT8: {ms:.2f} ms" in outcome.why
    assert f"{ms - 0.1:.2f} ms" in outcome.why
    advised = outcome.why.split("Ask for ")[1].split(" or less")[0]
    assert found(FakeLab(), request(advised)).chosen is not None
    assert not any(call.startswith(("pace", "train")) for call in lab.calls)


def test_nearest_that_holds_without_room_is_named() -> None:
    fastest = min(min(FakeLab().true_times(each).values()) for each in SPACE)
    outcome = found(FakeLab(), request(f"p50<={1.02 * fastest:.4f}ms"))
    assert outcome.chosen is None and "with 5% of room" in outcome.why


def test_closest_precision_that_holds_the_target_is_taken() -> None:
    lab = FakeLab()
    easy = found(lab, request("p50<=100ms"))
    assert easy.chosen is not None and easy.chosen.way == "onnxruntime FP32"
    assert easy.chosen.key in {each.key for each in SPACE if each.width == 32}
    for milliseconds in (1.0, 1.5, 2.0, 2.5, 3.0):
        outcome = found(FakeLab(), request(f"p50<={milliseconds}ms"))
        assert outcome.chosen is not None
        times = lab.true_times(BY_KEY[outcome.chosen.key])
        closest = next(way for way in WAYS if times[way] * ROOM <= milliseconds)
        assert outcome.chosen.way == closest


def test_export_that_fails_gives_way_to_the_next() -> None:
    wanted = request("p50<=1.2ms")
    first = found(FakeLab(), wanted).chosen
    assert first is not None and first.way == "openvino INT8"
    outcome = found(FakeLab(failing=frozenset({(first.key, "int8")})), wanted)
    assert outcome.chosen is not None and outcome.chosen.key != first.key
    assert f"{first.key} int8 could not be exported: INT8 loses too much." in outcome.notes
    fates = {each.key: each.fate for each in outcome.tried}
    assert (fates[first.key], fates[outcome.chosen.key]) == ("could not be exported", "chosen")
    assert "the best that could be used" in outcome.why
    everything = frozenset((each.key, p) for each in SPACE for p in ("fp32", "int8"))
    nothing = found(FakeLab(failing=everything), wanted)
    assert nothing.chosen is None and len(nothing.notes) >= 3
    assert "No bundle came of the nets that hold p50<=1.2ms with random weights" in nothing.why
    assert "could not be exported" in nothing.why and "busier" not in nothing.why


def test_a_bundle_whose_masks_are_wrong_everywhere_is_no_slow_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(FakeLab, "times_of", lambda self, bundle: {})
    outcome = found(FakeLab(), request("p50<=1.2ms"))
    assert outcome.chosen is None and "its bundle gives wrong masks" in outcome.why
    assert any("gives other masks than the net, on every engine" in n for n in outcome.notes)


def test_a_search_that_took_too_long_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    slow = FakeLab.export

    def export(self: FakeLab, *given_: Any) -> Written:
        self.seconds += 5000
        return slow(self, *given_)

    monkeypatch.setattr(FakeLab, "export", export)
    outcome = found(FakeLab(), request("p50<=1.2ms"))
    assert outcome.spent > outcome.budget
    assert (
        outcome.notes[-1].startswith("The search took ") and "is not cut short" in outcome.notes[-1]
    )


def test_bundles_that_are_slower_than_their_sketches_are_not_given_out() -> None:
    lab = FakeLab(drift=1.5)
    outcome = found(lab, request("p50<=1.2ms"))
    assert outcome.chosen is None or outcome.chosen.milliseconds <= 1.2
    assert any("misses the target: its bundle takes" in note for note in outcome.notes)
    assert "its bundle is too slow" in [each.fate for each in outcome.tried]
    slower = found(FakeLab(drift=3.0), request("p50<=1.2ms"))
    assert slower.chosen is None
    assert "No bundle holds p50<=1.2ms when it is measured" in slower.why


def test_no_export_starts_that_would_go_beyond_the_budget() -> None:
    failing = frozenset((each.key, p) for each in SPACE for p in ("fp32", "int8"))
    for budget in (30.0, 45.0, 60.0, 90.0):
        lab = FakeLab(failing=failing, epoch=0.05)
        outcome = found(lab, request("p50<=100ms", budget=budget))
        assert outcome.chosen is None and lab.seconds <= budget


def test_precisions_of_ways() -> None:
    assert [precision_of(way) for way in WAYS] == ["fp32", "bf16", "int8"]
    assert precision_of("onnxruntime cuda FP16") == "fp16"
