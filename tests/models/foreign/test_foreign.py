"""Checkpoints of others: recognised at any width, exact after translation, or refused by name."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from edgeunet.bundle.bundle import open_bundle
from edgeunet.bundle.manifest import RGB
from edgeunet.exporting import ExportOptions, export_bundle
from edgeunet.models import Checkpoint
from support.foreign import (
    FORMS,
    TITLES,
    every_form,
    every_format,
    image,
    logits_of,
    original,
    ours,
    refusal,
    saved,
    state,
)

pytestmark = pytest.mark.usefixtures("no_gradients")


# The same function


@every_form
@pytest.mark.parametrize(("width", "channels", "classes"), [(4, 3, 3), (6, 1, 2)])
def test_outputs_are_those_of_the_original(
    form: str, width: int, channels: int, classes: int
) -> None:
    net = original(form, classes, width=width, channels=channels)
    expected = logits_of(net.double()(image(channels)))
    found = ours(net.state_dict())(image(channels))
    assert expected.std() > 0.1  # something to compare
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)


@every_form
def test_one_logit_becomes_background_and_foreground(form: str) -> None:
    net = original(form, 1).double()
    *_, bias = net.parameters()  # of the head
    bias -= logits_of(net(image())).median()  # so that both classes appear
    z = logits_of(net(image()))
    logits = ours(net.state_dict())(image())
    assert logits.shape[1] == 2
    assert torch.equal(logits[:, :1], torch.zeros_like(z))
    torch.testing.assert_close(logits[:, 1:], z, atol=1e-5, rtol=1e-5)
    foreground = logits[:, 1:].sigmoid() > 0.5
    assert foreground.any() and not foreground.all()
    assert torch.equal(logits.argmax(1, keepdim=True) == 1, foreground)


@every_format
def test_half_precision_weights_are_those_rounded(form: str) -> None:
    net = original(form)
    tensors = {n: t.half() if t.is_floating_point() else t for n, t in net.state_dict().items()}
    net.load_state_dict(tensors)
    expected = logits_of(net.double()(image()))
    torch.testing.assert_close(ours(tensors)(image()), expected, atol=1e-5, rtol=1e-5)


# From the file


@every_format
@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_a_file_loads_with_nothing_but_the_size(tmp_path: Path, form: str, suffix: str) -> None:
    net = original(form)
    weights = saved(tmp_path, net.state_dict(), f"net{suffix}")
    opened = Checkpoint.open(weights, size=(32, 48))  # the format names the model
    loaded, card = opened.net, opened.card
    assert (str(opened.path), card.model, len(card.classes)) == (weights, FORMS[form][0], 3)
    assert (card.input.height, card.input.width, card.input.channels) == (32, 48, RGB)
    expected = logits_of(net.double()(image()))
    torch.testing.assert_close(loaded.double()(image()), expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(
    ("form", "channels", "mean", "std"),
    [
        ("milesial", 3, (0, 0, 0), (1, 1, 1)),
        ("milesial", 1, (0,), (1,)),
        ("tutorial original", 1, (0.5,), (0.5,)),
        ("tutorial", 3, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
        ("nested final", 1, (0,), (1,)),
    ],
)
def test_images_are_normalised_as_the_original_does(
    tmp_path: Path, form: str, channels: int, mean: tuple[float, ...], std: tuple[float, ...]
) -> None:
    weights = saved(tmp_path, state(form, channels=channels))
    card = Checkpoint.open(weights, FORMS[form][0], size=(32, 48)).card
    assert (card.input.mean, card.input.std, len(card.input.channels)) == (mean, std, channels)


@every_format
def test_another_variant_is_refused_by_name(tmp_path: Path, form: str) -> None:
    variant = FORMS[form][0]
    other = "unetpp" if variant == "unet" else "unet"
    weights = saved(tmp_path, state(form))
    assert refusal(other, weights) == (
        f"{weights} is {TITLES[form.split()[0]]}, i.e. {variant}; {other} was asked for."
    )


@every_format
def test_a_damaged_checkpoint_names_its_format_and_the_keys(tmp_path: Path, form: str) -> None:
    tensors = state(form)
    layer = {"tutorial": "dec3_1.0", "nested final": "conv1_2.conv1"}.get(
        form, "up2.conv.double_conv.3"
    )
    shape = tuple(tensors[f"{layer}.weight"].shape)
    tensors[f"{layer}.weight"] = tensors[f"{layer}.weight"][:, 1:]
    tensors["attention.weight"] = torch.zeros(3)
    message = refusal(FORMS[form][0], saved(tmp_path, tensors))
    for title in (*TITLES.values(), f"a {FORMS[form][0]} of edgeunet"):
        assert title in message
    assert f"Closest is {TITLES[form.split()[0]]}, i.e. {FORMS[form][0]}, but it" in message
    assert "it has unknown attention.weight;" in message
    assert f"it differs in {layer}.weight ({shape[0]}, {shape[1] - 1}, 3, 3)" in message
    assert f"instead of {shape}." in message


# To the bundle


@every_format
def test_a_bundle_of_a_foreign_checkpoint_keeps_parity(tmp_path: Path, form: str) -> None:
    net = original(form)
    weights = saved(tmp_path, {"net": net.state_dict()})
    output = tmp_path / "bundle"
    options = ExportOptions(FORMS[form][0], weights=weights, size=(64, 96), max_batch=2)
    parity = export_bundle(output, options)
    assert parity.candidate.agreement >= 0.9999
    bundle = open_bundle(output)
    card = json.loads((output / "checkpoint.json").read_text())
    assert (card["structure"] is not None) == (form == "tutorial")
    golden = bundle.golden()
    spec = bundle.manifest.input
    pixels = (golden.frames / 255 - np.array(spec.mean)) / np.array(spec.std)
    images = torch.from_numpy(pixels.astype(np.float32)).permute(0, 3, 1, 2)
    expected = logits_of(net(images)).numpy()
    np.testing.assert_allclose(golden.logits, expected, atol=1e-4)
