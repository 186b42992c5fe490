"""Judging masks over a split."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import pytest

from edgeunet.bundle.manifest import InputSpec
from edgeunet.data.datasets import Dataset, open_dataset
from edgeunet.data.fit import Fit
from edgeunet.errors import DatasetError
from edgeunet.metrics import IGNORE, boundary_f1
from edgeunet.models.reference import evaluate_on

GRAY = InputSpec(20, 20, channels=("gray",), mean=(0.5,), std=(0.25,))

Pixels = npt.NDArray[np.uint8]


@pytest.fixture
def dataset(tmp_path: Path) -> Dataset:
    """Two validation images, each its own mask in gray; the right column is ignored."""
    for folder in ("images", "masks"):
        (tmp_path / "val" / folder).mkdir(parents=True)
    for index, columns in enumerate((8, 12)):
        mask = np.zeros((20, 20), np.uint8)
        mask[:, :columns] = 1
        assert cv2.imwrite(str(tmp_path / "val" / "images" / f"{index}.png"), mask)
        mask[:, -1] = IGNORE
        assert cv2.imwrite(str(tmp_path / "val" / "masks" / f"{index}.png"), mask)
    (tmp_path / "dataset.json").write_text(json.dumps({"classes": ["sky", "road", "sea"]}))
    return open_dataset(tmp_path)


def test_the_truth_scores_everything_whatever_is_said_of_ignored_pixels(dataset: Dataset) -> None:
    def predict(image: Pixels) -> Pixels:
        mask = image[..., 0].copy()
        mask[:, -1] = 2
        return mask

    metrics = evaluate_on(predict, dataset, "val", fit=Fit(GRAY)).metrics()
    assert metrics == {
        "miou": 100.0,
        "averaged": 2,
        "left_out": ["sea"],
        "iou": [100.0, 100.0, None],
        "dice": [100.0, 100.0, None],
        "boundary_f1": 100.0,
    }


def test_scores_are_those_of_all_pixels_and_of_the_boundaries_mean(dataset: Dataset) -> None:
    def predict(image: Pixels) -> Pixels:
        return np.where(np.arange(20) < 8, 1, 0).astype(np.uint8)[None].repeat(20, 0)

    found = evaluate_on(predict, dataset, "val", fit=Fit(GRAY))
    # Of 20 rows: 8 + 12 columns of road, 16 of them found; 11 + 7 of sky, and 4 too many.
    assert found.metrics()["iou"][:2] == [round(100 * 18 / 22, 2), round(100 * 16 / 20, 2)]
    right, wrong = np.zeros((20, 20), np.uint8), np.zeros((20, 20), np.uint8)
    right[:, :12], wrong[:, :8] = 1, 1
    right[:, -1] = wrong[:, -1] = IGNORE
    assert found.boundary == pytest.approx((1 + boundary_f1(right, wrong)) / 2)
    assert 0 < found.boundary < 1
    # The first image is right; of the second 7 of 11 columns of sky, and 8 of 12 of road.
    assert found.images == (100.0, round(100 * (7 / 11 + 8 / 12) / 2, 3))


def test_answer_of_one_class_is_not_praised_by_labels_of_one(dataset: Dataset) -> None:
    for path in (dataset.root / "val" / "masks").iterdir():
        assert cv2.imwrite(str(path), np.zeros((20, 20), np.uint8))

    def predict(image: Pixels) -> Pixels:
        return np.zeros((20, 20), np.uint8)

    with pytest.raises(DatasetError, match=r"val hold 'sky' alone; expected two classes or more"):
        evaluate_on(predict, dataset, "val", fit=Fit(GRAY))
