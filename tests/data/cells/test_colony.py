"""The life of a colony: motion, division, and its return to the start."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from edgeunet.data.cells import CellFrame, Scene, time_lapse
from edgeunet.errors import UsageError
from support.cells import BACKGROUND, CELL, DIVIDING, SCENE, ids, is_empty


def test_division_is_followed_by_more_cells() -> None:
    film = list(time_lapse(Scene(**{**SCENE.__dict__, "empty": 0.0, "height": 192}), 160))
    assert all((frame.mask == CELL).any() for frame in film)
    # Watch each cell that divides in full view until it is gone: two new ones replace it.
    seen: set[int] = set()
    births = 0
    for before, after in pairwise(film):
        seen |= ids(before)
        for gone in ids(before) - ids(after):
            place = before.instances == gone
            if (before.mask[place] != DIVIDING).any() or place.sum() < 150:
                continue  # it left the view
            daughters = [one for one in ids(after) - seen if (after.instances[place] == one).any()]
            assert len(daughters) == 2
            assert all(set(after.mask[after.instances == one]) == {DIVIDING} for one in daughters)
            births += 1
    assert births >= 2
    assert len(ids(film[-1])) > len(ids(film[0]))


def test_dividing_cells_are_bright() -> None:
    film = list(time_lapse(Scene(**{**SCENE.__dict__, "empty": 0.0}), 120))
    grey = np.stack([frame.image.mean(-1) for frame in film])
    mask = np.stack([frame.mask for frame in film])
    means = [grey[mask == label].mean() for label in (BACKGROUND, CELL, DIVIDING)]
    assert means[CELL] < means[BACKGROUND] < means[DIVIDING] - 30


def test_film_returns_to_the_same_cells(film: list[CellFrame]) -> None:
    empty = [index for index, frame in enumerate(film) if is_empty(frame)]
    assert ids(film[empty[0] - 12]) & ids(film[empty[-1] + 12])


def test_empty_zero_gives_no_empty_frames() -> None:
    scene = Scene(height=96, width=96, cells=8, seed=1, empty=0.0, period=20)
    assert not any(is_empty(frame) for frame in time_lapse(scene, 45))


def test_motion_is_small_from_frame_to_frame(film: list[CellFrame]) -> None:
    at_rest = [frame for frame in film[: int(0.55 * SCENE.period)] if not is_empty(frame)]
    for before, after in pairwise(at_rest):
        assert np.mean(before.mask != after.mask) < 0.05
        for one in ids(before) & ids(after):
            (y0, x0), (y1, x1) = (
                np.mean(np.nonzero(frame.instances == one), axis=1) for frame in (before, after)
            )
            if (before.instances == one).sum() > 100:
                assert np.hypot(y1 - y0, x1 - x0) < 4
    far = np.mean(at_rest[0].mask != at_rest[-1].mask)
    assert far > 0.05, "but they do move"


def test_cells_touch() -> None:
    frame = next(time_lapse(Scene(seed=3), 1))
    left, right = frame.instances[:, :-1], frame.instances[:, 1:]
    touching = (left > 0) & (right > 0) & (left != right)
    pairs = set(zip(left[touching].tolist(), right[touching].tolist(), strict=True))
    assert len(pairs) >= 5
    assert touching.sum() > 30


@pytest.mark.parametrize("wrong", [{"height": 0}, {"cells": -1}, {"empty": 0.9}, {"period": 3}])
def test_refuses_an_impossible_scene(wrong: dict[str, float]) -> None:
    with pytest.raises(UsageError, match="Scene"):
        Scene(**wrong)  # type: ignore[arg-type]
