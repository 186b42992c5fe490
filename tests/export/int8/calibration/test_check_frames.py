"""Data that no table can come from is refused, with the reason; good data passes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from torch import nn

from edgeunet.bundle.manifest import InputSpec
from edgeunet.data.cells import snapshots
from edgeunet.data.datasets import open_dataset
from edgeunet.data.fit import Fit
from edgeunet.errors import CalibrationError
from edgeunet.exporting.int8.calibration.check_frames import (
    check_classes,
    check_pixels,
    examine,
)
from edgeunet.exporting.int8.calibration.frames import describe_source, select
from edgeunet.exporting.int8.calibration.selection import describe_frame
from edgeunet.exporting.origins.distance import distance_of
from edgeunet.models import SegmentationNet, list_models
from edgeunet.models.checkpoints import Checkpoint
from edgeunet.runtime.frames import Frame
from support.media import read_rgb, write_png

FIT = Fit(InputSpec(64, 96))


@pytest.fixture(scope="module")
def cells() -> list[Frame]:
    return [frame.image for frame in snapshots(6, height=256, width=320, seed=3)]


def noise(index: int) -> Frame:
    return np.random.default_rng(index).integers(0, 256, (64, 96, 3), np.uint8)


def refusal(frames: Sequence[Frame]) -> str:
    candidates = {index: describe_frame(frame, FIT) for index, frame in enumerate(frames)}
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
    assert "pass --levels LO,HI" in found


def test_noise_is_refused() -> None:
    assert "are noise" in refusal([noise(index) for index in range(4)])


def test_one_bad_frame_among_good_ones_is_no_reason(cells: list[Frame]) -> None:
    frames = [*cells, noise(0), np.zeros((64, 96, 3), np.uint8)]
    check_pixels(
        {index: describe_frame(frame, FIT) for index, frame in enumerate(frames)}, "FOLDER"
    )


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
    candidates = describe_source(folder, num_classes=net.num_classes, fit=FIT)
    return examine(
        partial(distance_of, net, net.encode),
        candidates.descriptors,
        select(candidates).typical,
        spec,
    )


@pytest.fixture(scope="module", params=list_models())
def trained(request: pytest.FixtureRequest) -> tuple[SegmentationNet, InputSpec]:
    """Each variant with its weights for cells, and their input at a quarter of the pixels."""
    opened = Checkpoint.open("cells", request.param)
    net, card = opened.net, opened.card
    return net, replace(card.input, height=128, width=160)


@pytest.fixture(scope="module")
def corners(cells: list[Frame]) -> list[Frame]:
    """Frames of that size, of cells as large as in the training."""
    return [frame[:128, :160] for frame in cells]


def test_good_frames_pass_at_any_exposure(
    corners: list[Frame], trained: tuple[SegmentationNet, InputSpec], tmp_path: Path
) -> None:
    net, spec = trained
    for number, exposure in enumerate(EXPOSURES.values()):
        folder = save([exposure(frame) for frame in corners], tmp_path / str(number))
        said = examined(net, spec, folder)
        assert "distance from the training data" in said
        assert "exchanged" not in said


WRONG = {"left out": (0.0, 1.0), "left at 0..255": (0.0, 1 / 255)}


@pytest.mark.parametrize("way", WRONG)
def test_wrong_normalisation_is_refused_and_the_right_one_named(
    corners: list[Frame],
    trained: tuple[SegmentationNet, InputSpec],
    tmp_path: Path,
    way: str,
) -> None:
    net, spec = trained
    mean, std = WRONG[way]
    wrong = replace(spec, mean=(mean,) * 3, std=(std,) * 3)
    wanted = (
        r"as red, green, blue with mean 0.485, 0.456, 0.406 and std 0.229, .* they fit \d+ times"
    )
    with pytest.raises(CalibrationError, match=wanted):
        examined(net, wrong, save(corners, tmp_path / "frames"))


class Unnormed(SegmentationNet):
    """Its only feature is the image."""

    def __init__(self) -> None:
        super().__init__(deepest_channels=3, num_classes=2, cgm=False)

    def encode(self, image: torch.Tensor) -> list[torch.Tensor]:
        return [image]

    def decode(self, features: Sequence[torch.Tensor]) -> tuple[torch.Tensor, ...]:
        return tuple(features)


class Normed(Unnormed):
    """Its only feature is the normalised image."""

    def __init__(self, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(3, eps=0.0)
        self.norm.running_mean = torch.tensor(mean)
        self.norm.running_var = torch.tensor(std).square()
        self.eval()

    def encode(self, image: torch.Tensor) -> list[torch.Tensor]:
        return [self.norm(image)]


AS_READ = InputSpec(64, 96, mean=(0.0,) * 3, std=(1.0,) * 3)
"""Values in 0..1."""


def test_net_without_batch_normalisation_is_not_compared(
    cells: list[Frame], tmp_path: Path
) -> None:
    found = examined(Unnormed(), AS_READ, save(cells[:3], tmp_path / "frames"))
    assert "not compared with the training data" in found


def test_unknown_preparation_that_fits_nothing_customary_is_refused(
    cells: list[Frame], tmp_path: Path
) -> None:
    """Such as values in 0..65535."""
    net = Normed([30000.0] * 3, [4000.0] * 3)
    with pytest.raises(CalibrationError, match=r"exposure explains at most .*--mean"):
        examined(net, AS_READ, save(cells[:3], tmp_path / "frames"))


def test_contrast_is_not_taken_for_a_preparation(cells: list[Frame], tmp_path: Path) -> None:
    """Prepared for -1..1, frames of little contrast look like ImageNet's statistics left out."""
    half = replace(AS_READ, mean=(0.5,) * 3, std=(0.5,) * 3)
    bright = [frame + np.uint8(10) for frame in cells]
    prepared = (np.stack(bright).reshape(-1, 3) / 255 - 0.5) / 0.5
    net = Normed(prepared.mean(0).tolist(), prepared.std(0).tolist())
    flat = [(frame.mean() + 0.45 * (frame - frame.mean())).astype(np.uint8) for frame in bright]
    assert "distance" in examined(net, half, save(flat, tmp_path / "frames"))


def test_frames_that_fit_better_with_red_and_blue_exchanged_are_told_of(tmp_path: Path) -> None:
    tinted = [noise(index) // 2 + np.array([60, 30, 0], np.uint8) for index in range(3)]
    smooth = [cv2.blur(frame, (3, 3)) for frame in tinted]
    values = np.stack(smooth).reshape(-1, 3) / 255
    net = Normed(values.mean(0).tolist(), values.std(0).tolist())
    assert "exchanged" not in examined(net, AS_READ, save(smooth, tmp_path / "rgb"))
    frames = [np.ascontiguousarray(frame[..., ::-1]) for frame in smooth]
    said = examined(net, AS_READ, save(frames, tmp_path / "bgr"))
    assert "with red and blue exchanged" in said
    assert "not red, green, blue" in said


# By what the net sees


def test_frames_of_one_class_are_refused() -> None:
    with pytest.raises(CalibrationError, match="sees 'background' and nothing else"):
        check_classes({0}, ("background", "cell"))
    check_classes({0, 1}, ("background", "cell"))
    check_classes({0}, ("mask",))


# Real data


@pytest.fixture(scope="module")
def streets(camvid: Path) -> list[Frame]:
    """The middle of street scenes."""
    samples = open_dataset(camvid).samples("train")[:360:45]
    return [read_rgb(sample.image)[:, 128:352] for sample in samples]


@pytest.fixture(scope="module")
def street_net() -> tuple[SegmentationNet, InputSpec]:
    opened = Checkpoint.open("camvid", "mobile_unet")
    net, card = opened.net, opened.card
    return net, replace(card.input, width=224)


@pytest.mark.data
@pytest.mark.parametrize("exposure", ["as they are", "a stop darker", "a stop brighter"])
def test_street_scenes_pass(
    streets: list[Frame],
    street_net: tuple[SegmentationNet, InputSpec],
    tmp_path: Path,
    exposure: str,
) -> None:
    frames = [EXPOSURES[exposure](frame) for frame in streets[::2]]
    said = examined(*street_net, save(frames, tmp_path / "frames"))
    assert "distance" in said
    assert "exchanged" not in said


@pytest.mark.data
def test_street_scenes_in_bgr_are_told_of(
    streets: list[Frame], street_net: tuple[SegmentationNet, InputSpec], tmp_path: Path
) -> None:
    frames = [np.ascontiguousarray(frame[..., ::-1]) for frame in streets]
    assert "exchanged" in examined(*street_net, save(frames, tmp_path / "frames"))
