"""Weights without a card."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from edgeunet.bundle.manifest import RGB
from edgeunet.errors import UsageError
from edgeunet.models import Checkpoint, Preparation, create_model
from support.foreign import FORMS, TITLES, every_format, refusal, saved, state

BGR = RGB[::-1]
pytestmark = pytest.mark.usefixtures("no_gradients")


# From the file


@pytest.mark.parametrize(
    ("given", "channels", "mean", "std"),
    [
        (Preparation(("bgr",)), BGR, (0.406, 0.456, 0.485), (0.225, 0.224, 0.229)),
        (Preparation(mean=(0.5,), std=(0.25,)), RGB, (0.5,) * 3, (0.25,) * 3),
        (Preparation(BGR, mean=(0.1, 0.2, 0.3)), BGR, (0.1, 0.2, 0.3), (0.225, 0.224, 0.229)),
    ],
)
def test_frames_are_prepared_as_the_user_says(
    tmp_path: Path,
    given: Preparation,
    channels: tuple[str, ...],
    mean: tuple[float, ...],
    std: tuple[float, ...],
) -> None:
    weights = saved(tmp_path, state("tutorial"))
    card = Checkpoint.open(weights, "unet", size=(32, 48), preparation=given).card
    assert (card.input.channels, card.input.mean, card.input.std) == (channels, mean, std)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (Preparation(("gray",)), "takes 3 channels; --channels gray does not fit"),
        (
            Preparation(mean=(0.1, 0.2)),
            "mean and std need 3 values for red, green, blue. Pass --mean",
        ),
        (Preparation(std=(0.0,)), "std is (0.0, 0.0, 0.0); it must be positive. Pass --mean"),
    ],
)
def test_preparations_that_do_not_fit_are_refused(
    tmp_path: Path, given: Preparation, words: str
) -> None:
    with pytest.raises(UsageError, match=re.escape(words)):
        Checkpoint.open(
            saved(tmp_path, state("tutorial")), "unet", size=(32, 48), preparation=given
        )


def test_a_card_says_itself_how_frames_are_prepared() -> None:
    with pytest.raises(UsageError, match="has a card, which says how frames are prepared"):
        Checkpoint.open("cells", "mobile_unet", preparation=Preparation(BGR))


def test_another_filter_than_the_cards() -> None:
    whole = Checkpoint.open("cells", "mobile_unet").card
    chosen = Checkpoint.open("cells", "mobile_unet", preparation=Preparation(filter="area")).card
    assert chosen == replace(whole, input=replace(whole.input, filter="area"))


def test_filter_is_bilinear_unless_the_user_says_so(tmp_path: Path) -> None:
    weights = saved(tmp_path, state("tutorial"))
    for given, wanted in ((None, "bilinear"), (Preparation(filter="pillow"), "pillow")):
        card = Checkpoint.open(weights, "unet", size=(32, 48), preparation=given).card
        assert card.input.filter == wanted
    given = Preparation(filter="pillow", levels=(0, 4095))
    with pytest.raises(UsageError, match=r"does not fit uint16\. Pass --mean, --std, --filter"):
        Checkpoint.open(weights, "unet", size=(32, 48), preparation=given)


def test_channels_without_usual_names_are_to_be_named(tmp_path: Path) -> None:
    weights = saved(tmp_path, state("milesial", channels=4))
    message = refusal("unet", weights)
    assert "takes 4 channels. Name them in its order, such as --channels red" in message
    given = Preparation((*RGB, "NIR"), levels=(0, 4095))
    spec = Checkpoint.open(weights, "unet", size=(32, 48), preparation=given).card.input
    assert (spec.channels, spec.levels) == ((*RGB, "nir"), (0, 4095))
    assert (spec.depth, spec.mean, spec.std) == ("uint16", (0.0,) * 4, (1.0,) * 4)


@every_format
def test_the_size_is_needed(tmp_path: Path, form: str) -> None:
    message = refusal(FORMS[form][0], saved(tmp_path, state(form)), size=None)
    assert f"is {TITLES[form.split()[0]]}" in message
    assert "Pass --size HxW" in message


def test_another_number_of_classes_is_refused(tmp_path: Path) -> None:
    weights = saved(tmp_path, state("milesial"))
    assert refusal("unet", weights, num_classes=4) == (
        f"{weights} has 3 classes; --num-classes 4 was asked for."
    )
    opened = Checkpoint.open(weights, "unet", num_classes=3, size=(32, 48))
    assert opened.net.num_classes == 3


def test_an_unrelated_checkpoint_lists_the_known_formats(tmp_path: Path) -> None:
    tensors = {"conv1.weight": torch.zeros(8, 3, 7, 7), "layer1.0.conv1.weight": torch.zeros(8)}
    message = refusal("unet", saved(tmp_path, tensors), size=None)
    assert "is of no known format: a unet of edgeunet, a U-Net of tutorials" in message
    assert "Closest is a unet of edgeunet, but it lacks decoder.0.fuse.0.0.weight, " in message
    assert "it has unknown conv1.weight, layer1.0.conv1.weight." in message


@pytest.mark.parametrize(
    ("model", "arguments"),
    [
        ("mobile_unet", {"width": 32}),
        ("mobile_unet", {"width": 12}),  # its stem is rounded to 16 channels
        ("eff_unet", {"width": 8, "in_channels": 1}),
        ("resunet", {"width": 4, "cgm": True}),
        ("unet", {"width": 6, "upsampling": "bilinear"}),
        ("unet3p", {"width": 4, "deep_supervision": False}),
        ("unetpp", {"width": 4, "depth": 2, "cgm": True}),
        ("unetpp", {"width": 4, "deep_supervision": False}),
    ],
)
def test_a_state_dict_of_ours_tells_the_arguments(
    tmp_path: Path, model: str, arguments: dict[str, Any]
) -> None:
    net = create_model(model, num_classes=3, **arguments)
    weights = saved(tmp_path, net.state_dict())
    opened = Checkpoint.open(weights, model, size=(64, 64))
    x = torch.rand(1, arguments.get("in_channels", 3), 64, 64)
    torch.testing.assert_close(opened.net(x), net.eval()(x), rtol=0, atol=0)
    assert opened.card.input.channels == (("gray",) if x.shape[1] == 1 else RGB)
    assert "do not tell the size of the input. Pass --size" in refusal(model, weights, size=None)
    message = refusal(model, weights, num_classes=4)
    assert message == f"{weights} has 3 classes; --num-classes 4 was asked for."
