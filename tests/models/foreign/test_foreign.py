"""Checkpoints of others: recognised at any width, exact after translation, or refused by name."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save_file
from torch import Tensor, nn

from edgeunet.bundle.bundle import open_bundle
from edgeunet.errors import CheckpointError, UsageError
from edgeunet.export import ExportOptions, export_bundle
from edgeunet.models import Checkpoint, Preparation, SegmentationNet, create_model
from edgeunet.models.foreign import recognise
from edgeunet.models.state_dict import load_weights, unwrap
from edgeunet.models.structure import resize
from support.originals import MilesialUNet, NestedUNet, TutorialUNet, shake

Build = Callable[..., nn.Module]

# Every form that is known: our variant, and how to build it with some classes.
FORMS: dict[str, tuple[str, Build]] = {
    "tutorial": ("unet", lambda n, **kw: TutorialUNet("score_fr", n, **kw)),
    "tutorial regular": ("unet", lambda n, **kw: TutorialUNet("regular", n, **kw)),
    "tutorial original": ("unet", lambda n, **kw: TutorialUNet("original", n, **kw)),
    "nested final": ("unetpp", lambda n, **kw: NestedUNet("final", n, **kw)),
    "nested final1-4": ("unetpp", lambda n, **kw: NestedUNet("final1-4", n, **kw)),
    "nested seg_outputs": ("unetpp", lambda n, **kw: NestedUNet("seg_outputs", n, **kw)),
    "milesial": ("unet", lambda n, **kw: MilesialUNet(False, n, **kw)),
    "milesial biased": ("unet", lambda n, **kw: MilesialUNet(False, n, bias=True, **kw)),
    "milesial bilinear": ("unet", lambda n, **kw: MilesialUNet(True, n, **kw)),
    "milesial bilinear biased": ("unet", lambda n, **kw: MilesialUNet(True, n, bias=True, **kw)),
}
TITLES = {
    "tutorial": "a U-Net of tutorials (enc1_1 ... dec1_1)",
    "nested": "a nested U-Net (conv0_0 ... conv0_4)",
    "milesial": "a U-Net of milesial's",
}
every_form = pytest.mark.parametrize("form", FORMS)
# One of each format, for what does not depend on the form.
every_format = pytest.mark.parametrize("form", ["tutorial", "nested final", "milesial bilinear"])


def original(form: str, classes: int = 3, *, width: int = 4, **arguments: Any) -> nn.Module:
    """A small net of others, trained by chance."""
    net: nn.Module = shake(FORMS[form][1](classes, width=width, **arguments))
    return net


def state(form: str, classes: int = 3, **arguments: Any) -> dict[str, Tensor]:
    return original(form, classes, **arguments).state_dict()


def ours(tensors: dict[str, Tensor]) -> SegmentationNet:
    """Our net of a recognised state dict, in double precision."""
    foreign = recognise(tensors)
    assert foreign is not None
    net = create_model(foreign.model, **foreign.arguments)
    if foreign.structure is not None:
        resize(net, foreign.structure, source="test")
    load_weights(net, foreign.tensors, source="test")
    return net.double().eval()


def image(channels: int = 3) -> Tensor:
    """Double: sums in another order then agree, and what is left is the translation."""
    generator = torch.Generator().manual_seed(1)
    return torch.randn(2, channels, 32, 48, generator=generator, dtype=torch.double)


def logits_of(output: Any) -> Tensor:
    """Of the nested net's columns the last."""
    logits: Tensor = output[-1] if isinstance(output, list) else output
    return logits


@pytest.fixture(autouse=True)
def no_gradients() -> Any:
    with torch.no_grad():
        yield


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


@pytest.mark.parametrize("form", ["nested final1-4", "nested seg_outputs"])
def test_every_head_of_the_nested_net_is_that_of_its_column(form: str) -> None:
    net = original(form)
    heads = ours(net.state_dict()).run(image()).heads
    assert len(heads) == 4
    for found, expected in zip(heads, reversed(net.double()(image())), strict=True):
        torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)


@every_format
def test_half_precision_weights_are_those_rounded(form: str) -> None:
    net = original(form)
    tensors = {n: t.half() if t.is_floating_point() else t for n, t in net.state_dict().items()}
    net.load_state_dict(tensors)
    expected = logits_of(net.double()(image()))
    torch.testing.assert_close(ours(tensors)(image()), expected, atol=1e-5, rtol=1e-5)


# What is known of the originals


@pytest.mark.parametrize(
    ("build", "count"),
    [
        (lambda: TutorialUNet("score_fr", 11, width=64), 30_953_867),
        (lambda: NestedUNet("seg_outputs", 1, width=64), 36_629_828),
        (lambda: NestedUNet("final1-4", 1, width=64), 36_629_828),
        (lambda: NestedUNet("final", 1, width=64), 36_629_633),
        (lambda: MilesialUNet(False, 2, width=64), 31_037_698),
        (lambda: MilesialUNet(True, 2, width=64), 17_263_042),
    ],
)
def test_full_width_is_recognised_and_has_the_known_parameters(
    build: Callable[[], nn.Module], count: int
) -> None:
    with torch.device("meta"):
        net = build()
    assert sum(parameter.numel() for parameter in net.parameters()) == count
    foreign = recognise(net.state_dict())
    assert foreign is not None
    assert (foreign.arguments["width"], foreign.arguments["in_channels"]) == (64, 3)


@every_form
def test_structure_is_told_where_no_width_gives_it(form: str) -> None:
    foreign = recognise(state(form))
    assert foreign is not None
    assert foreign.model == FORMS[form][0]
    assert (foreign.structure is not None) == (form in ("tutorial", "tutorial original"))
    if form == "tutorial":  # dec2_1 maps 2 widths to 1, and unpool1 keeps it
        assert foreign.structure is not None
        assert foreign.structure["decoder.2.fuse.1.0"] == (8, 4)
        assert foreign.structure["decoder.3.up"] == (4, 4)


def test_arguments_are_those_of_the_variant() -> None:
    common = {"num_classes": 3, "in_channels": 3, "width": 4}
    for form, more in {
        "milesial": {},
        "milesial bilinear": {"upsampling": "bilinear", "align_corners": True},
        "nested final": {"align_corners": True, "deep_supervision": False},
        "nested seg_outputs": {"align_corners": True, "deep_supervision": True},
    }.items():
        foreign = recognise(state(form))
        assert foreign is not None
        assert foreign.arguments == {**common, **more}


# Wrappings


@pytest.mark.parametrize("name", ["state_dict", "model_state_dict", "model", "net"])
@pytest.mark.parametrize("prefix", ["", "module."])
def test_what_training_code_saves_beside_the_weights_is_taken_off(name: str, prefix: str) -> None:
    tensors = state("tutorial")
    momentum = {"state": {0: {"step": torch.zeros(())}}, "param_groups": [{"lr": 0.1}]}
    content = {
        "epoch": 3,
        "optim": momentum,
        name: {prefix + key: tensor for key, tensor in tensors.items()},
    }
    found = unwrap(content)
    assert found.keys() == tensors.keys()
    assert all(torch.equal(found[key], tensor) for key, tensor in tensors.items())


def test_a_plain_state_dict_stays_as_it_is() -> None:
    tensors = state("milesial")
    assert unwrap(tensors) == tensors
    # One key under `module.` is a layer of that name, not DataParallel's prefix on all.
    named = {**tensors, "module.weight": torch.zeros(1)}
    assert unwrap(named) == named


@pytest.mark.parametrize("extra", [[0, 255], torch.tensor([0, 255])])
def test_mask_values_of_milesial_do_not_matter(tmp_path: Path, extra: object) -> None:
    path = tmp_path / "net.pth"
    torch.save({**state("milesial"), "mask_values": extra}, path)
    opened = Checkpoint.open(path, "unet", size=(32, 48))
    assert len(opened.card.classes) == 3
    expected = original("milesial").double()(image())
    torch.testing.assert_close(opened.net.double()(image()), expected, atol=1e-5, rtol=1e-5)


# What is not of the format


@every_format
@given(data=st.data())
def test_a_missing_key_is_not_recognised(form: str, data: Any) -> None:
    tensors = state(form)
    needed = sorted(name for name in tensors if not name.endswith("num_batches_tracked"))
    del tensors[data.draw(st.sampled_from(needed))]
    assert recognise(tensors) is None


@every_format
@given(data=st.data())
def test_another_shape_is_not_recognised(form: str, data: Any) -> None:
    tensors = state(form)
    # The first convolution tells the image's channels, whatever they are.
    first = next(iter(tensors))
    name = data.draw(
        st.sampled_from(sorted(n for n, t in tensors.items() if t.ndim and n != first))
    )
    axis = data.draw(st.integers(0, tensors[name].ndim - 1))
    tensors[name] = torch.cat([tensors[name]] * 2, dim=axis)
    assert recognise(tensors) is None


@every_form
def test_another_layer_is_not_recognised(form: str) -> None:
    assert recognise({**state(form), "attention.weight": torch.zeros(4, 4, 1, 1)}) is None


@pytest.mark.parametrize(
    "tensors",
    [
        {},
        {"weight": torch.zeros(3)},
        {"conv1.weight": torch.zeros(8, 3, 7, 7), "fc.weight": torch.zeros(5, 8)},
        {name: torch.zeros(()) for name in state("tutorial")},
    ],
)
def test_unrelated_tensors_are_not_recognised(tensors: dict[str, Tensor]) -> None:
    assert recognise(tensors) is None


# From the file


def saved(folder: Path, tensors: dict[str, Tensor], name: str = "net.pth") -> str:
    path = folder / name
    if path.suffix == ".safetensors":
        save_file({n: t.contiguous() for n, t in tensors.items()}, path)
    else:
        torch.save(tensors, path)
    return str(path)


def refusal(model: str, weights: str, **options: Any) -> str:
    with pytest.raises((CheckpointError, UsageError)) as error:
        Checkpoint.open(weights, model, **{"size": (32, 48), **options})
    return str(error.value)


@every_format
@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_a_file_loads_with_nothing_but_the_size(tmp_path: Path, form: str, suffix: str) -> None:
    net = original(form)
    weights = saved(tmp_path, net.state_dict(), f"net{suffix}")
    opened = Checkpoint.open(weights, size=(32, 48))  # the format names the model
    loaded, card = opened.net, opened.card
    assert (str(opened.path), card.model, len(card.classes)) == (weights, FORMS[form][0], 3)
    assert (card.input.height, card.input.width, card.input.color) == (32, 48, "rgb")
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
    assert (card.input.mean, card.input.std, card.input.channels) == (mean, std, channels)


@pytest.mark.parametrize(
    ("given", "color", "mean", "std"),
    [
        (Preparation("bgr"), "bgr", (0.406, 0.456, 0.485), (0.225, 0.224, 0.229)),
        (Preparation(mean=(0.5,), std=(0.25,)), "rgb", (0.5,) * 3, (0.25,) * 3),
        (Preparation("bgr", (0.1, 0.2, 0.3)), "bgr", (0.1, 0.2, 0.3), (0.225, 0.224, 0.229)),
    ],
)
def test_frames_are_prepared_as_the_user_says(
    tmp_path: Path, given: Preparation, color: str, mean: tuple[float, ...], std: tuple[float, ...]
) -> None:
    weights = saved(tmp_path, state("tutorial"))
    card = Checkpoint.open(weights, "unet", size=(32, 48), preparation=given).card
    assert (card.input.color, card.input.mean, card.input.std) == (color, mean, std)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (Preparation("gray"), "takes 3 channels; --color gray does not fit"),
        (Preparation(mean=(0.1, 0.2)), "mean and std need 3 values for colour 'rgb'. Pass --mean"),
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
        Checkpoint.open("cells", "mobile_unet", preparation=Preparation("bgr"))


def test_channels_that_no_frame_has_are_refused(tmp_path: Path) -> None:
    message = refusal("unet", saved(tmp_path, state("milesial", channels=4)))
    assert "takes 4 channels; frames have 3, or 1 in gray" in message


@every_format
def test_another_variant_is_refused_by_name(tmp_path: Path, form: str) -> None:
    variant = FORMS[form][0]
    other = "unetpp" if variant == "unet" else "unet"
    weights = saved(tmp_path, state(form))
    assert refusal(other, weights) == (
        f"{weights} is {TITLES[form.split()[0]]}, i.e. {variant}; {other} was asked for."
    )


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
    assert opened.card.input.color == ("gray" if x.shape[1] == 1 else "rgb")
    assert "do not tell the size of the input. Pass --size" in refusal(model, weights, size=None)
    message = refusal(model, weights, num_classes=4)
    assert message == f"{weights} has 3 classes; --num-classes 4 was asked for."


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
