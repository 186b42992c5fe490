"""What a user says of frames becomes the input of a net, or an error that names the option."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgeunet.bundle.manifest import InputSpec
from edgeunet.bundle.steps import ImageStatistics
from edgeunet.data.preparation import Preparation
from edgeunet.errors import UsageError

PATH = Path("unet.pth")
SIZE = (32, 48)


@pytest.mark.parametrize(
    ("said", "channels", "scaling", "expected"),
    [
        (Preparation(), 3, None, InputSpec(*SIZE)),
        (Preparation(), 3, (0.5, 0.25), InputSpec(*SIZE, mean=(0.5,) * 3, std=(0.25,) * 3)),
        (
            Preparation(channels=("bgr",)),
            3,
            None,
            InputSpec(
                *SIZE,
                channels=("blue", "green", "red"),
                mean=(0.406, 0.456, 0.485),
                std=(0.225, 0.224, 0.229),
            ),
        ),
        (
            Preparation(
                levels=(0.0, 4095.0), mean=(0.5,), filter="area", resize="pad_centre", fill=7.0
            ),
            1,
            None,
            InputSpec(
                *SIZE,
                channels=("gray",),
                levels=(0.0, 4095.0),
                depth="uint16",
                resize="pad_centre",
                fill=7.0,
                filter="area",
                mean=(0.5,),
                std=(1.0,),
            ),
        ),
        (
            Preparation(std=(2.0,), statistics=ImageStatistics()),
            3,
            (0.5, 0.25),
            InputSpec(*SIZE, mean=(0.0,) * 3, std=(2.0,) * 3, statistics=ImageStatistics()),
        ),
    ],
    ids=["nothing", "the original code", "another order", "12 bit", "measured"],
)
def test_input_is_what_was_said(
    said: Preparation, channels: int, scaling: tuple[float, float] | None, expected: InputSpec
) -> None:
    assert said.input(PATH, SIZE, channels, scaling) == expected


@pytest.mark.parametrize(
    ("said", "channels", "message"),
    [
        (Preparation(), 4, r"unet\.pth takes 4 channels\. Name them"),
        (Preparation(channels=("gray",)), 3, r"--channels gray does not fit"),
        (Preparation(fill=9.0), 3, "it is for padding"),
        (Preparation(std=(0.0,)), 3, r"Pass --mean, --std, --filter, --resize and --fill that fit"),
    ],
)
def test_what_does_not_fit_is_refused(said: Preparation, channels: int, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        said.input(PATH, SIZE, channels, None)
