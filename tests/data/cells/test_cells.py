"""Procedural cells: determinism, exact masks, and plausible films."""

from __future__ import annotations

import json
from itertools import islice, pairwise
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeunet.data.cells import (
    CLASSES,
    PALETTE,
    CellFrame,
    Scene,
    snapshots,
    time_lapse,
    write_dataset,
)
from edgeunet.data.datasets import list_samples, open_dataset, read_image, read_mask
from edgeunet.errors import OutputExistsError, UsageError

BACKGROUND, CELL, DIVIDING = range(3)
SCENE = Scene(height=128, width=160, cells=9, seed=5, radius=12.0, period=200)


@pytest.fixture(scope="module")
def film() -> list[CellFrame]:
    return list(time_lapse(SCENE, SCENE.period))


def content(frames: list[CellFrame]) -> bytes:
    parts = (part for f in frames for part in (f.image, f.mask, f.instances))
    return b"".join(part.tobytes() for part in parts)


def check_frame(frame: CellFrame, height: int, width: int) -> None:
    assert frame.image.shape == (height, width, 3)
    assert frame.image.dtype == np.uint8
    assert frame.mask.shape == (height, width)
    assert frame.mask.dtype == np.uint8
    assert frame.instances.shape == (height, width)
    assert frame.instances.dtype == np.uint16
    assert frame.mask.max() < len(CLASSES)
    np.testing.assert_array_equal(frame.instances > 0, frame.mask > 0)
    pairs = np.unique(frame.instances.astype(np.int64) * len(CLASSES) + frame.mask)
    assert len(pairs) == len(ids(frame) | {0}) - frame.mask.all(), "an instance has two classes"


def is_empty(frame: CellFrame) -> bool:
    return not frame.mask.any()


def ids(frame: CellFrame) -> set[int]:
    return set(np.unique(frame.instances).tolist()) - {0}


def test_palette_has_a_colour_for_each_class() -> None:
    assert len(PALETTE) == len(CLASSES) == len(set(PALETTE))
    assert PALETTE[BACKGROUND] == (0, 0, 0)


def test_same_seed_same_bytes(film: list[CellFrame]) -> None:
    assert content(list(time_lapse(SCENE, 20))) == content(film[:20])
    size = {"height": 64, "width": 80}
    first = list(snapshots(4, **size, seed=1))
    assert content(first) == content(list(snapshots(4, **size, seed=1)))
    # A longer run starts with the shorter one.
    assert content(first[:2]) == content(list(snapshots(2, **size, seed=1)))


def test_other_seed_other_bytes(film: list[CellFrame]) -> None:
    other = Scene(**{**SCENE.__dict__, "seed": SCENE.seed + 1})
    assert content(list(time_lapse(other, 1))) != content(film[:1])
    by_seed = {content(list(snapshots(2, height=64, width=80, seed=seed))) for seed in range(4)}
    assert len(by_seed) == 4


def test_global_random_state_is_not_used(film: list[CellFrame]) -> None:
    threads = cv2.getNumThreads()
    before = np.random.get_state()[1].copy()
    try:
        cv2.setNumThreads(1)
        assert content(list(time_lapse(SCENE, 3))) == content(film[:3])
    finally:
        cv2.setNumThreads(threads)
    np.testing.assert_array_equal(before, np.random.get_state()[1])


def test_masks_and_instances_agree(film: list[CellFrame]) -> None:
    for frame in film:
        check_frame(frame, SCENE.height, SCENE.width)


@settings(max_examples=25, deadline=None, derandomize=True)
@given(
    height=st.integers(1, 90),
    width=st.integers(1, 90),
    cells=st.integers(0, 12),
    seed=st.integers(0, 2**32),
)
def test_every_size(height: int, width: int, cells: int, seed: int) -> None:
    scene = Scene(height=height, width=width, cells=cells, seed=seed, radius=8.0, period=20)
    frames = list(time_lapse(scene, 2)) + list(snapshots(1, height=height, width=width, seed=seed))
    for frame in frames:
        check_frame(frame, height, width)
    assert cells or is_empty(frames[0])


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


def test_empty_frames_are_noise_and_background(film: list[CellFrame]) -> None:
    empty = [index for index, frame in enumerate(film) if is_empty(frame)]
    assert not is_empty(film[0])
    assert not is_empty(film[-1])
    assert len(empty) >= SCENE.empty * SCENE.period
    assert empty == list(range(empty[0], empty[-1] + 1)), "one stretch a period"
    one, other = (film[index].image.astype(int) for index in empty[:2])
    assert 0.5 < (one - other).std() < 20
    with_cells = film[0].image[film[0].mask == BACKGROUND].mean()
    assert abs(one.mean() - with_cells) < 15, "the light stays on"


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


def test_snapshots_vary_and_some_are_empty() -> None:
    samples = list(snapshots(120, height=64, width=80, seed=0))
    empty = np.mean([is_empty(sample) for sample in samples])
    assert 0.1 < empty < 0.27
    cover = np.array([np.mean(sample.mask > 0) for sample in samples])
    assert cover.max() > 0.4
    assert cover.std() > 0.1
    assert np.std([sample.image.mean() for sample in samples]) > 8
    assert sum((sample.mask == DIVIDING).any() for sample in samples) > 30


def test_write_dataset(tmp_path: Path) -> None:
    root = tmp_path / "cells"
    write_dataset(root, train=3, val=2, height=48, width=64, seed=7)
    dataset = open_dataset(root)
    assert (dataset.name, dataset.classes, dataset.palette) == ("cells", CLASSES, PALETTE)
    assert json.loads((root / "dataset.json").read_text())["ignore"] == 255
    assert [sample.image.name for sample in list_samples(root / "train")] == [
        "000000.png",
        "000001.png",
        "000002.png",
    ]
    images = []
    for split, count, seed in (("train", 3, 14), ("val", 2, 15)):
        samples = dataset.samples(split)
        assert len(samples) == count
        expected = snapshots(count, height=48, width=64, seed=seed)
        for stored, made in zip(samples, expected, strict=True):
            image = read_image(stored.image)
            np.testing.assert_array_equal(image, made.image)
            np.testing.assert_array_equal(read_mask(stored.mask, num_classes=3), made.mask)
            images.append(image.tobytes())
    assert len(set(images)) == 5, "train and val share nothing"


def test_write_dataset_refuses_an_existing_folder(tmp_path: Path) -> None:
    (tmp_path / "note.txt").write_text("mine")
    with pytest.raises(OutputExistsError):
        write_dataset(tmp_path, train=1, val=1, height=32, width=32)
    assert [path.name for path in tmp_path.iterdir()] == ["note.txt"]


@pytest.mark.parametrize("wrong", [{"height": 0}, {"cells": -1}, {"empty": 0.9}, {"period": 3}])
def test_refuses_an_impossible_scene(wrong: dict[str, float]) -> None:
    with pytest.raises(UsageError, match="Scene"):
        Scene(**wrong)  # type: ignore[arg-type]


def test_frames_are_made_on_demand() -> None:
    endless = time_lapse(Scene(height=32, width=32, cells=2), 10**9)
    assert len(list(islice(endless, 2))) == 2
