"""The preview: the very crops that a training gets, as pictures that show what they hold."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from edgeunet.bundle.manifest import InputSpec
from edgeunet.bundle.steps import ImageStatistics
from edgeunet.data.datasets import open_dataset
from edgeunet.errors import UsageError
from edgeunet.metrics import IGNORE
from edgeunet.models.reference import to_input
from edgeunet.training.feed import Step
from edgeunet.training.loop import Trainer
from edgeunet.training.preview import first_crops, picture_of, sheet, write_preview
from edgeunet.training.train import train
from support.media import read_rgb
from support.training import SHORT

LIVELY = replace(SHORT, crop=(32, 64), epochs=1, mix=0.5, focus=0.5, photometry="camera", seed=7)
NET = {"size": (96, 96), "width": 8}


def test_crops_are_those_of_the_training(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained: list[Step] = []
    learn = Trainer.learn

    def noted(trainer: Trainer, step: Step) -> torch.Tensor:
        trained.append(step)
        return learn(trainer, step)

    monkeypatch.setattr(Trainer, "learn", noted)
    train("mobile_unet", data, tmp_path / "run", config=LIVELY, **NET)
    spec, dataset = InputSpec(96, 96), open_dataset(data)
    trainer = Trainer("mobile_unet", dataset, tmp_path, spec=spec, config=LIVELY, width=8)
    images, labels = zip(*first_crops(trainer), strict=True)
    assert torch.equal(torch.stack(images), torch.cat([step.batch[0] for step in trained]))
    wanted = torch.cat([step.batch[1] for step in trained])
    assert torch.equal(torch.from_numpy(np.stack(labels)).long(), wanted)

    assert write_preview(tmp_path / "a.PNG", "mobile_unet", data, config=LIVELY, **NET) == 12
    written = read_rgb(tmp_path / "a.PNG")
    first = sheet(list(zip(images[:12], labels[:12], strict=True)), spec, dataset.palette)
    assert (written == first).all()
    assert written.shape == (4 * (32 + 12) + 12, 3 * (2 * 64 + 12) + 12, 3)
    other = replace(LIVELY, seed=8)
    write_preview(tmp_path / "b.png", "mobile_unet", data, config=other, **NET)
    assert (read_rgb(tmp_path / "b.png") != first).any()
    assert not (tmp_path / "best.safetensors").exists()


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"channels": ("blue", "green", "red"), "mean": (0.1, 0.2, 0.3)},
        {"channels": ("gray",), "mean": (0.5,), "std": (0.2,)},
    ],
)
def test_pictures_are_what_was_normalised(changes: dict[str, Any]) -> None:
    spec = InputSpec(20, 24, **changes)
    frame = np.random.default_rng(3).integers(0, 256, (20, 24, 3), np.uint8)
    if len(spec.channels) == 1:
        frame[:] = frame[..., :1]
    assert (picture_of(to_input(frame, spec)[0], spec) == frame).all()


def test_pictures_of_images_with_statistics_span_from_black_to_white() -> None:
    spec = InputSpec(
        20, 24, mean=(0.0,) * 3, std=(1.0,) * 3, statistics=ImageStatistics(measure="zscore")
    )
    frame = np.random.default_rng(3).integers(90, 130, (20, 24, 3), np.uint8)
    found = picture_of(to_input(frame, spec)[0], spec)
    assert (found.min(), found.max()) == (0, 255)
    assert found[frame == frame.max()].min() > 200, "and the brightest stay bright"


def test_context_and_frames_without_labels_are_striped(data: Path, tmp_path: Path) -> None:
    config = replace(SHORT, crop=(36, 52), batch_size=4)
    folder = data / "val" / "images"
    more = {"unlabelled": folder, "padding": "valid", "width": 4, "size": (112, 112)}
    dataset = open_dataset(data)
    assert write_preview(tmp_path / "a.png", "unet", data, config=config, **more) == 12
    written = read_rgb(tmp_path / "a.png")
    colours = {tuple(colour) for colour in dataset.palette}

    def labels_of(index: int) -> np.ndarray:
        row, column = divmod(index, 3)
        height, width = (written.shape[0] - 12) // 4, (written.shape[1] - 12) // 3
        pair = written[row * height + 12 : (row + 1) * height, column * width + 12 :]
        return pair[:, (width - 12) // 2 : width - 12]

    labelled, unlabelled = labels_of(0), labels_of(2)  # two of four have no labels
    assert {tuple(pixel) for pixel in unlabelled.reshape(-1, 3)} == {(255,) * 3, (170,) * 3}
    margin = (labelled.shape[0] - 36) // 2
    assert margin > 0
    inside = labelled[margin:-margin, margin:-margin]
    assert inside.shape[:2] == (36, 52)
    assert {tuple(pixel) for pixel in inside.reshape(-1, 3)} <= {*colours, (255,) * 3, (170,) * 3}
    assert {tuple(pixel) for pixel in labelled[0]} <= {(255,) * 3, (170,) * 3}


def test_a_sheet_has_as_many_columns_as_it_can_fill() -> None:
    crop = torch.zeros(3, 10, 20), np.full((10, 20), IGNORE, np.uint8)
    for count, shape in ((1, (34, 64)), (3, (34, 168)), (4, (56, 168))):
        assert sheet([crop] * count, InputSpec(32, 32), ((0, 0, 0),)).shape[:2] == shape


def test_refuses_another_kind_of_file(data: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"crops\.jpg is no name of a PNG"):
        write_preview(tmp_path / "crops.jpg", "mobile_unet", data, config=SHORT)
