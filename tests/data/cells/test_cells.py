"""Procedural cells: determinism, exact masks, and plausible films."""

from __future__ import annotations

import json
import os
from itertools import islice
from pathlib import Path

import cv2
import numpy as np
import pytest

from edgeunet.data.cells import (
    CLASSES,
    PALETTE,
    CellFrame,
    Scene,
    snapshots,
    time_lapse,
    write_dataset,
)
from edgeunet.data.datasets import open_dataset, read_mask
from edgeunet.data.samples import list_samples
from edgeunet.errors import OutputExistsError
from support.cells import BACKGROUND, DIVIDING, SCENE, is_empty
from support.media import read_rgb


def content(frames: list[CellFrame]) -> bytes:
    parts = (part for f in frames for part in (f.image, f.mask, f.instances))
    return b"".join(part.tobytes() for part in parts)


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
            image = read_rgb(stored.image)
            np.testing.assert_array_equal(image, made.image)
            np.testing.assert_array_equal(read_mask(stored.labels.path, num_classes=3), made.mask)
            images.append(image.tobytes())
    assert len(set(images)) == 5, "train and val share nothing"


def test_write_dataset_knows_its_keys_and_takes_any_folder(tmp_path: Path) -> None:
    root = tmp_path / os.fsdecode(b"stra\xdfe")
    write_dataset(root, train=1, val=1, height=32, width=32)
    assert open_dataset(root).description.ignore == (255,)
    assert len(open_dataset(root).samples("val")) == 1


def test_write_dataset_refuses_an_existing_folder(tmp_path: Path) -> None:
    (tmp_path / "note.txt").write_text("mine")
    with pytest.raises(OutputExistsError):
        write_dataset(tmp_path, train=1, val=1, height=32, width=32)
    assert [path.name for path in tmp_path.iterdir()] == ["note.txt"]


def test_frames_are_made_on_demand() -> None:
    endless = time_lapse(Scene(height=32, width=32, cells=2), 10**9)
    assert len(list(islice(endless, 2))) == 2
