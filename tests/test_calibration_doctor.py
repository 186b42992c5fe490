"""Data that no table can come from is refused, with the reason; good data passes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from media import write_png
from torch import nn

from edgeunet.errors import CalibrationError
from edgeunet.export.calibration import examine, open_frames, select
from edgeunet.export.calibration.doctor import check_classes, check_pixels
from edgeunet.export.calibration.moments import distance
from edgeunet.export.calibration.selection import describe_frame
from edgeunet.manifest import InputSpec
from edgeunet.models import SegmentationNet
from edgeunet.models.checkpoints import Card, find_weights, load_checkpoint
from edgeunet.runtime.preprocess import Frame
from edgeunet.training.cells import snapshots


@pytest.fixture(scope="module")
def cells() -> list[Frame]:
    return [frame.image for frame in snapshots(6, height=256, width=320, seed=3)]


@pytest.fixture(scope="module")
def trained() -> tuple[SegmentationNet, Card]:
    return load_checkpoint(find_weights("mobile_unet", "cells"))


def noise(index: int) -> Frame:
    return np.random.default_rng(index).integers(0, 256, (64, 96, 3), np.uint8)


def refusal(frames: Sequence[Frame]) -> str:
    candidates = {index: describe_frame(frame) for index, frame in enumerate(frames)}
    with pytest.raises(CalibrationError) as error:
        check_pixels(candidates, "FOLDER")
    assert "FOLDER" in str(error.value)
    assert "Pass --calib" in str(error.value)
    return str(error.value)


# By their pixels


def test_one_frame_is_refused(cells: list[Frame]) -> None:
    assert "holds one frame" in refusal(cells[:1])


def test_equal_frames_are_refused(cells: list[Frame]) -> None:
    assert "all 5 frames of FOLDER are equal" in refusal([cells[0]] * 5)


def test_frames_that_differ_by_a_videos_noise_alone_are_refused(cells: list[Frame]) -> None:
    flicker = [
        (cells[0] + np.random.default_rng(n).normal(0, 1, cells[0].shape)).clip(0, 255)
        for n in range(5)
    ]
    assert "are equal" in refusal([frame.astype(np.uint8) for frame in flicker])


def test_constant_frames_are_refused() -> None:
    found = refusal([np.full((64, 96, 3), level, np.uint8) for level in (20, 90, 200)])
    assert "are constant" in found
    assert "means 20 to 200" in found


def test_frames_divided_by_255_before_they_were_saved_are_refused(cells: list[Frame]) -> None:
    found = refusal([(frame / 255).round().astype(np.uint8) for frame in cells])
    assert "scaled to 0..1" in found


def test_noise_is_refused() -> None:
    assert "are noise" in refusal([noise(index) for index in range(4)])


def test_one_bad_frame_among_good_ones_is_no_reason(cells: list[Frame]) -> None:
    frames = [*cells, noise(0), np.zeros((64, 96, 3), np.uint8)]
    check_pixels({index: describe_frame(frame) for index, frame in enumerate(frames)}, "FOLDER")


# By what the net was trained on


EXPOSURES: dict[str, Callable[[Frame], Frame]] = {
    "as they are": lambda frame: frame,
    "a stop darker": lambda frame: frame // 2,
    "two stops darker": lambda frame: frame // 4,
    "a stop brighter": lambda frame: np.minimum(frame.astype(np.int32) * 2, 255).astype(np.uint8),
    "of gamma 2": lambda frame: (255 * (frame / 255) ** 2).astype(np.uint8),
    "of gamma 1/2": lambda frame: (255 * (frame / 255) ** 0.5).astype(np.uint8),
}


def save(frames: Sequence[Frame], folder: Path) -> Path:
    folder.mkdir()
    for index, frame in enumerate(frames):
        write_png(folder / f"{index}.png", frame)
    return folder


def examined(net: SegmentationNet, spec: InputSpec, folder: Path) -> str:
    source = open_frames(folder, num_classes=net.num_classes)
    candidates = source.scan()
    return examine(net, candidates, select(source, candidates).typical, spec)


@pytest.mark.parametrize("exposure", EXPOSURES)
def test_good_frames_pass_at_any_exposure(
    cells: list[Frame], trained: tuple[SegmentationNet, Card], tmp_path: Path, exposure: str
) -> None:
    net, card = trained
    folder = save([EXPOSURES[exposure](frame) for frame in cells[:4]], tmp_path / "frames")
    assert "distance from the training data" in examined(net, card.input, folder)


@pytest.mark.parametrize(
    ("mean", "std"), [(0.0, 1.0), (0.0, 1 / 255)], ids=["left out", "left at 0..255"]
)
def test_wrong_normalisation_is_refused(
    cells: list[Frame],
    trained: tuple[SegmentationNet, Card],
    tmp_path: Path,
    mean: float,
    std: float,
) -> None:
    net, card = trained
    wrong = replace(card.input, mean=(mean,) * 3, std=(std,) * 3)
    with pytest.raises(CalibrationError, match=r"unlike what the net was trained on.*--mean"):
        examined(net, wrong, save(cells[:4], tmp_path / "frames"))


def test_net_without_batch_normalisation_is_not_compared(
    cells: list[Frame], tmp_path: Path
) -> None:
    class Plain(SegmentationNet):
        def __init__(self) -> None:
            super().__init__(deepest_channels=3, num_classes=2, cgm=False)

        def encode(self, image: torch.Tensor) -> list[torch.Tensor]:
            return [image]

        def decode(self, features: Sequence[torch.Tensor]) -> tuple[torch.Tensor, ...]:
            return tuple(features)

    found = examined(Plain(), InputSpec(64, 96), save(cells[:3], tmp_path / "frames"))
    assert "no batch normalisation" in found


def test_distance_is_that_of_the_moments() -> None:
    class Normed(SegmentationNet):
        def __init__(self) -> None:
            super().__init__(deepest_channels=3, num_classes=2, cgm=False)
            self.norm = nn.BatchNorm2d(3, eps=0.0)

        def encode(self, image: torch.Tensor) -> list[torch.Tensor]:
            return [self.norm(image)]

        def decode(self, features: Sequence[torch.Tensor]) -> tuple[torch.Tensor, ...]:
            return tuple(features)

    net = Normed().eval()
    frames = [noise(0), noise(1)]
    values = np.stack(frames).reshape(-1, 3) / 255
    found = distance(net, frames, InputSpec(64, 96, mean=(0.0,) * 3, std=(1.0,) * 3))
    assert found is not None
    assert found.mean == pytest.approx(np.median(values.mean(0)), rel=1e-4)
    assert found.variance == pytest.approx(np.median(np.log(values.var(0))), rel=1e-4)
    assert found.spread == pytest.approx(-found.variance, rel=1e-4)


# By what the net sees


def test_frames_of_one_class_are_refused() -> None:
    with pytest.raises(CalibrationError, match="sees 'background' and nothing else"):
        check_classes({0}, ("background", "cell"))
    check_classes({0, 1}, ("background", "cell"))
    check_classes({0}, ("mask",))


# Real data


@pytest.mark.data
@pytest.mark.parametrize("exposure", ["as they are", "a stop darker", "a stop brighter"])
def test_street_scenes_pass(camvid: Path, tmp_path: Path, exposure: str) -> None:
    net, card = load_checkpoint(find_weights("mobile_unet", "camvid"))
    source = open_frames(camvid, num_classes=11)
    frames = [EXPOSURES[exposure](frame) for frame in source.read(range(0, 360, 90))]
    assert "distance" in examined(net, card.input, save(frames, tmp_path / "frames"))
