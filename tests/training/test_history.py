"""The epochs of a run: the best one, when the mIoU has stalled, and the log."""

from __future__ import annotations

import json
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from edgeunet.training.history import LOG, Epoch, History


def history(scores: list[float | None], patience: int | None = None) -> History:
    epochs = [Epoch(n, 1 / n, score, 0.5 * n) for n, score in enumerate(scores, start=1)]
    return History(patience, epochs)


def test_first_of_equal_epochs_is_the_best() -> None:
    assert history([None, 40.0, None, 61.5, 61.5, 60.0]).best == (4, 61.5)
    assert history([None, None]).best is history([]).best is None


@given(scores=st.lists(st.none() | st.integers(0, 9), max_size=20), patience=st.integers(1, 9))
def test_stalls_when_no_epoch_of_the_patience_is_better(
    scores: list[float | None], patience: int
) -> None:
    validated = [n for n, score in enumerate(scores) if score is not None]
    stalled = False
    if validated:
        last = validated[-1]
        before = [scores[n] for n in validated if n <= last - patience]
        since = [scores[n] for n in validated if n > last - patience]
        stalled = bool(before) and max(since, default=0) <= max(before)  # type: ignore[type-var]
    assert history(scores, patience).has_stalled == stalled
    assert not history(scores).has_stalled


def test_is_restored_from_what_a_state_keeps_and_the_log_is_written_whole(tmp_path: Path) -> None:
    whole, other = history([None, 40.0, 30.0], 1), History(1)
    whole.write(tmp_path)
    other.restore(whole.lines[:2])
    assert other.epochs == whole.epochs[:2] and not other.has_stalled and whole.has_stalled
    other.write(tmp_path)
    lines = [json.loads(line) for line in (tmp_path / LOG).read_text().splitlines()]
    assert lines == [
        {"epoch": 1, "loss": 1.0, "miou": None, "minutes": 0.5},
        {"epoch": 2, "loss": 0.5, "miou": 40.0, "minutes": 1.0},
    ]
