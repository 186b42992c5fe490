"""The choice of frames that differ."""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeunet.bundle.manifest import InputSpec
from edgeunet.data.cells import snapshots
from edgeunet.data.fit import Fit
from edgeunet.exporting.int8.calibration.selection import (
    describe_frame,
    evenly,
    farthest_first,
    thinned,
)

FIT = Fit(InputSpec(64, 96))

seeds = st.integers(0, 2**32 - 1)


# Selection


def clusters(seed: int, *, count: int) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.int64]]:
    """Points of well separated clusters of very different sizes, shuffled, and their clusters."""
    rng = np.random.default_rng(seed)
    sizes = rng.integers(1, 60, count)
    centres = 100.0 * np.eye(count)
    labels = rng.permutation(np.repeat(np.arange(count), sizes))
    return centres[labels] + rng.uniform(-1, 1, (len(labels), count)), labels


@given(seeds, st.integers(2, 8))
def test_every_cluster_is_chosen_from_however_small(seed: int, count: int) -> None:
    points, labels = clusters(seed, count=count)
    chosen = farthest_first(points, count)
    assert sorted(labels[chosen]) == list(range(count))


@given(seeds)
def test_choice_is_deterministic_and_does_not_depend_on_the_order(seed: int) -> None:
    points, _ = clusters(seed, count=4)
    order = np.random.default_rng(seed).permutation(len(points))
    chosen = farthest_first(points, 6)
    assert chosen == farthest_first(points, 6)
    assert chosen == [int(order[row]) for row in farthest_first(points[order], 6)]


def test_equal_frames_are_chosen_once() -> None:
    points = np.repeat(np.eye(3), 5, axis=0)
    assert len(farthest_first(points, 10)) == 3


def test_evenly_keeps_the_ends_and_the_order() -> None:
    chosen = evenly(range(100), 10)
    assert (chosen[0], chosen[-1], len(set(chosen))) == (0, 99, 10)
    assert chosen == sorted(chosen)
    assert evenly(range(4), 10) == [0, 1, 2, 3]


@pytest.mark.parametrize(("count", "wanted"), [(0, 0), (5, 5), (8, 8), (9, 5), (100, 7)])
def test_what_comes_in_unknown_number_is_thinned_evenly(count: int, wanted: int) -> None:
    made: list[int] = []

    def make(item: int) -> int:
        made.append(item)
        return item

    found = thinned(iter(range(count)), 8, kept=make)
    assert len(found) == wanted
    assert len(set(np.diff(found))) <= 1
    assert len(made) <= 40


def test_descriptors_of_alike_frames_are_near_and_of_others_far() -> None:
    frames = [frame.image for frame in snapshots(2, height=64, width=96, seed=5)]
    same, other = (describe_frame(frame, FIT).vector for frame in frames)
    near = describe_frame(cv2.resize(frames[0], (192, 128)), FIT).vector
    darker = describe_frame(frames[0] // 2, FIT).vector
    assert np.linalg.norm(same - near) < 5
    assert np.linalg.norm(same - other) > 5
    assert np.linalg.norm(same - darker) > 20
