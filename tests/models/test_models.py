"""The nets: shapes, sizes, gradients and the registry."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from edgeunet.errors import ShapeError, UnknownNameError, UsageError
from edgeunet.models import (
    SegmentationNet,
    UNet,
    UNetPP,
    create_model,
    list_models,
    model_class,
    register_model,
)

VARIANTS = ("eff_unet", "mobile_unet", "resunet", "unet", "unet3p", "unetpp")
TINY = {"eff_unet": 8, "mobile_unet": 8, "resunet": 4, "unet": 4, "unet3p": 4, "unetpp": 4}
# Strides of the heads, the one of inference first.
HEAD_STRIDES = {
    "eff_unet": (2,),
    "mobile_unet": (2,),
    "resunet": (1,),
    "unet": (1,),
    "unet3p": (1, 2, 4, 8, 16),
    "unetpp": (1, 1, 1, 1),
}
SIZE_MULTIPLE = {
    "eff_unet": 32,
    "mobile_unet": 32,
    "resunet": 8,
    "unet": 16,
    "unet3p": 16,
    "unetpp": 16,
}

every_variant = pytest.mark.parametrize("name", VARIANTS)


def tiny(name: str, *, num_classes: int = 3, **arguments: Any) -> SegmentationNet:
    """A small net in evaluation mode, its weights the same at every call."""
    torch.manual_seed(0)
    return create_model(name, num_classes=num_classes, **{"width": TINY[name], **arguments}).eval()


@cache
def shared(name: str, cgm: bool = False) -> SegmentationNet:
    """`tiny`, built once; for tests that do not change it."""
    return tiny(name, cgm=cgm)


def image(name: str, *, batch: int = 1, channels: int = 3, seed: int = 0) -> Tensor:
    """Random image, 2 x 3 times the variant's size multiple."""
    side = SIZE_MULTIPLE[name]
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(batch, channels, 2 * side, 3 * side, generator=generator)


def parameters(module: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


@pytest.fixture(autouse=True)
def no_gradients() -> Any:
    """Tests that need gradients switch them on."""
    with torch.no_grad():
        yield


# Registry


def test_all_variants_are_registered() -> None:
    assert list_models() == sorted(VARIANTS)


def test_unknown_model_lists_the_known_ones() -> None:
    with pytest.raises(UnknownNameError) as error:
        create_model("vnet", num_classes=2)
    assert "'vnet'" in str(error.value)
    assert all(name in str(error.value) for name in VARIANTS)


@every_variant
def test_unknown_argument_names_it_and_the_known_ones(name: str) -> None:
    with pytest.raises(UsageError, match=r"no argument colour\. It takes: .*width"):
        create_model(name, num_classes=2, colour="red")


@every_variant
@pytest.mark.parametrize("argument", ["num_classes", "in_channels"])
def test_count_below_one_is_refused(name: str, argument: str) -> None:
    counts = {"num_classes": 2, "in_channels": 3, argument: 0}
    with pytest.raises(UsageError, match=f"{argument} is 0"):
        create_model(name, num_classes=counts["num_classes"], in_channels=counts["in_channels"])


def test_duplicate_registration_is_refused() -> None:
    with pytest.raises(ValueError, match="'unet' is already registered as UNet"):
        register_model("unet")(UNetPP)
    assert model_class("unet") is UNet


# Shapes


@every_variant
@settings(max_examples=6, deadline=None)
@given(rows=st.integers(1, 3), columns=st.integers(1, 3), batch=st.integers(1, 2))
def test_heads_have_the_promised_shapes(name: str, rows: int, columns: int, batch: int) -> None:
    net = shared(name)
    height, width = rows * net.size_multiple, columns * net.size_multiple
    x = torch.zeros(batch, 3, height, width)
    heads, presence = net.run(x)
    logits = net(x)
    assert presence is None
    assert [tuple(head.shape) for head in heads] == [
        (batch, 3, height // stride, width // stride) for stride in HEAD_STRIDES[name]
    ]
    assert logits.shape == heads[0].shape


@every_variant
def test_size_multiple(name: str) -> None:
    assert shared(name).size_multiple == model_class(name).size_multiple == SIZE_MULTIPLE[name]


@every_variant
def test_features_are_finest_first(name: str) -> None:
    net = shared(name)
    features = net.encode(image(name))
    heights = [feature.shape[2] for feature in features]
    assert heights == sorted(heights, reverse=True)
    assert features[-1].shape[2:] == (2, 3)  # the deepest stride is the size multiple


@every_variant
@pytest.mark.parametrize(("num_classes", "in_channels"), [(1, 1), (5, 4)])
def test_classes_and_channels(name: str, num_classes: int, in_channels: int) -> None:
    net = tiny(name, num_classes=num_classes, in_channels=in_channels)
    heads, _ = net.run(image(name, channels=in_channels))
    assert {head.shape[1] for head in heads} == {num_classes}


@every_variant
def test_gate_gives_a_probability_per_image_and_class(name: str) -> None:
    net = shared(name, cgm=True)
    x = image(name, batch=2)
    logits, presence = net(x)
    assert presence.shape == (2, 3)
    assert bool(((presence >= 0) & (presence <= 1)).all())
    from_run = net.run(x).presence
    assert from_run is not None
    assert torch.equal(presence, from_run)
    assert logits.shape[:2] == (2, 3)


@every_variant
def test_gate_needs_the_encoder_alone(name: str) -> None:
    net = shared(name, cgm=True)
    x = image(name)
    assert net.cgm is not None
    features = net.encode(x)
    logits, presence = net(x)
    assert torch.equal(net.cgm(features[-1]), presence)
    assert torch.equal(net.select(net.decode(features)), logits)


# Sizes


@pytest.mark.parametrize(
    ("name", "num_classes", "count"),
    [
        ("eff_unet", 2, 5_986_846),
        ("mobile_unet", 2, 2_376_826),
        ("resunet", 2, 8_216_834),
        ("unet", 2, 31_037_698),
        ("unet3p", 1, 26_983_109),
        ("unetpp", 1, 9_159_780),
    ],
)
def test_parameters_at_default_width(name: str, num_classes: int, count: int) -> None:
    with torch.device("meta"):
        assert parameters(create_model(name, num_classes=num_classes)) == count


@pytest.mark.parametrize(("name", "count"), [("mobile_unet", 1_811_712), ("eff_unet", 3_595_388)])
def test_parameters_of_published_encoders(name: str, count: int) -> None:
    with torch.device("meta"):
        encoder = create_model(name, num_classes=2).encoder
    assert isinstance(encoder, torch.nn.Module)
    assert parameters(encoder) == count


@every_variant
def test_width_scales(name: str) -> None:
    with torch.device("meta"):
        one, two = (
            parameters(create_model(name, num_classes=2, width=width)) for width in (16, 32)
        )
    assert 3 < two / one < 4.1  # convolutions grow with the square


# Behaviour


@every_variant
def test_every_parameter_gets_a_gradient(name: str) -> None:
    net = tiny(name, cgm=True).train()
    with torch.enable_grad():
        heads, presence = net.run(image(name, batch=2))
        assert presence is not None
        # Squared: batch normalisation passes no gradient of a plain sum.
        loss = sum((head.square().sum() for head in heads), presence.square().sum())
        torch.autograd.backward(loss)
    for parameter_name, parameter in net.named_parameters():
        assert parameter.grad is not None, parameter_name
        assert bool(parameter.grad.isfinite().all()), parameter_name
        assert bool(parameter.grad.any()), parameter_name


@every_variant
def test_images_of_a_batch_do_not_mix(name: str) -> None:
    net = shared(name, cgm=True)
    one, other = image(name, seed=1), image(name, seed=2)
    together = net(torch.cat([one, other]))
    for index, single in enumerate((one, other)):
        for batched, alone in zip(together, net(single), strict=True):
            torch.testing.assert_close(batched[index], alone[0], atol=1e-5, rtol=1e-5)


@every_variant
def test_evaluation_is_deterministic(name: str) -> None:
    net = shared(name, cgm=True)
    for first, second in zip(net(image(name)), net(image(name)), strict=True):
        assert torch.equal(first, second)


# U-Net: unpadded convolutions


@pytest.mark.parametrize(("side", "out"), [(572, 388), (188, 4)])
def test_valid_unet_has_the_papers_output_size(side: int, out: int) -> None:
    net = tiny("unet", num_classes=2, padding="valid")
    assert net.run(torch.zeros(1, 3, side, 204)).heads[0].shape == (1, 2, out, 20)
    assert side - out == 2 * net.margin


@pytest.mark.parametrize("side", [172, 192, 200, 573])
def test_valid_unet_refuses_sizes_that_do_not_come_out(side: int) -> None:
    net = tiny("unet", padding="valid")
    with pytest.raises(ShapeError, match=f"image is 188x{side}; .* 188 \\+ 16 k"):
        net.run(torch.zeros(1, 3, 188, side))


def test_valid_unet_sees_the_image_in_place() -> None:
    """With the same weights both paddings agree where the padded net does not see the border."""
    padded, valid = tiny("unet"), tiny("unet", padding="valid")
    valid.load_state_dict(padded.state_dict())
    x = torch.randn(1, 3, 192, 192, generator=torch.Generator().manual_seed(0))
    # Two pixels bring the poolings of both to the same grid; 92 is the margin that valid loses.
    inner = valid.run(x[:, :, 2:190, 2:190]).heads[0]
    torch.testing.assert_close(inner, padded(x)[:, :, 94:98, 94:98], atol=1e-5, rtol=1e-5)


def test_valid_unet_predicts_every_pixel_of_an_image_mirrored_at_its_borders() -> None:
    net = tiny("unet", padding="valid").eval()
    image = torch.randn(1, 3, 112, 144, generator=torch.Generator().manual_seed(0))
    logits, _ = net.predict(image)
    assert logits.shape[2:] == (112, 144)
    rows, columns = (
        torch.from_numpy(np.pad(np.arange(side), (92, 96), mode="reflect")) for side in (112, 144)
    )
    mirrored = net.run(image[:, :, rows][..., columns]).heads[0]
    assert torch.equal(logits, mirrored[:, :, :112, :144])


def test_valid_unet_refuses_images_too_small_to_be_mirrored() -> None:
    net = tiny("unet", padding="valid").eval()
    with pytest.raises(ShapeError, match=r"image is 96x128; .* sides of 112 or more"):
        net.predict(torch.zeros(1, 3, 96, 128))


def test_unet_refuses_other_paddings() -> None:
    with pytest.raises(UsageError, match=r"unknown padding 'reflect'.*Known: same, valid"):
        tiny("unet", padding="reflect")


# U-Net: bilinear upsampling


def test_bilinear_unet_has_half_the_parameters_and_the_same_shapes() -> None:
    with torch.device("meta"):
        net = create_model("unet", num_classes=2, upsampling="bilinear")
    assert parameters(net) == 17_263_042
    x = image("unet")
    one, two = (tiny("unet", upsampling="bilinear", align_corners=a) for a in (False, True))
    assert one(x).shape == two(x).shape == tiny("unet")(x).shape
    assert one.state_dict().keys() == two.state_dict().keys()


@pytest.mark.parametrize("name", ["unet", "unetpp"])
def test_align_corners_keeps_corners_in_place(name: str) -> None:
    """A horizontal ramp of n pixels stays one, with (n - 1) / (2n - 1) of its slope."""
    arguments = {"upsampling": "bilinear"} if name == "unet" else {}
    ramp = torch.arange(8.0).expand(1, 1, 8, 8)
    for align_corners, slope in ((True, 7 / 15), (False, 0.5)):
        net = tiny(name, align_corners=align_corners, **arguments)
        up = next(module for module in net.modules() if isinstance(module, torch.nn.Upsample))
        row = up(ramp)[0, 0, 0]
        assert row[0] == 0
        assert row[-1] == 7
        torch.testing.assert_close(row[2:-1] - row[1:-2], torch.full((13,), slope))


def test_align_corners_needs_something_interpolated() -> None:
    with pytest.raises(UsageError, match="align_corners is set, but upsampling is 'transposed'"):
        tiny("unet", align_corners=True)


def test_unet_refuses_other_upsamplings() -> None:
    with pytest.raises(
        UsageError, match=r"unknown upsampling 'nearest'.*Known: bilinear, transposed"
    ):
        tiny("unet", upsampling="nearest")


# U-Net++: depth, heads, ensemble


@pytest.mark.parametrize("depth", [1, 2, 3])
def test_unetpp_pruned_net_is_a_part_of_the_whole(depth: int) -> None:
    whole, pruned = tiny("unetpp"), tiny("unetpp", depth=depth)
    state = whole.state_dict()
    shapes = {key: tensor.shape for key, tensor in state.items()}
    assert {key: tensor.shape for key, tensor in pruned.state_dict().items()}.items() <= (
        shapes.items()
    )
    for tensor in pruned.state_dict().values():
        tensor.zero_()
    pruned.load_state_dict({key: state[key] for key in pruned.state_dict()})
    x = image("unetpp")
    heads_by_depth = dict(zip((4, 3, 2, 1), whole.run(x).heads, strict=True))
    assert torch.equal(pruned(x), heads_by_depth[depth])
    assert len(pruned.encode(x)) == depth + 1
    assert pruned.size_multiple == 2**depth


@pytest.mark.parametrize("depth", [1, 2, 3])
def test_unetpp_pruned_net_takes_its_own_size_multiple(depth: int) -> None:
    side = 2**depth
    assert tiny("unetpp", depth=depth)(torch.zeros(1, 3, side, 3 * side)).shape == (
        1, 3, side, 3 * side
    )  # fmt: skip


def test_unetpp_head_of_inference_comes_first() -> None:
    x = image("unetpp")
    whole = shared("unetpp").run(x).heads  # X^{0,4}, X^{0,3}, X^{0,2}, X^{0,1}
    net = tiny("unetpp", head=2)
    heads = net.run(x).heads
    assert len(heads) == 4
    for head, wanted in zip(heads, (whole[2], whole[0], whole[1], whole[3]), strict=True):
        assert torch.equal(head, wanted)
    assert torch.equal(net(x), whole[2])


def test_unetpp_ensemble_is_the_mean_and_trains_the_same_heads() -> None:
    x = image("unetpp")
    net = tiny("unetpp", ensemble=True)
    heads = net.run(x).heads
    assert len(heads) == 4
    torch.testing.assert_close(net(x), torch.stack(heads).mean(0))
    assert torch.equal(heads[0], shared("unetpp")(x))


def test_unetpp_without_deep_supervision_has_the_deepest_head() -> None:
    net = tiny("unetpp", deep_supervision=False)
    assert len(net.run(image("unetpp")).heads) == 1
    assert [key for key in net.state_dict() if "heads" in key] == [
        "heads.4.weight",
        "heads.4.bias",
    ]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"depth": 0}, "depth is 0; unetpp has depths 1 to 4"),
        ({"depth": 5}, "depth is 5; unetpp has depths 1 to 4"),
        ({"depth": 2, "head": 3}, "head is 3; this unetpp has heads at: 1, 2"),
        ({"deep_supervision": False, "head": 2}, "head is 2; this unetpp has heads at: 4"),
        ({"head": 2, "ensemble": True}, "one or the other"),
        ({"depth": 1, "ensemble": True}, "two heads or more"),
        ({"deep_supervision": False, "ensemble": True}, "two heads or more"),
    ],
)
def test_unetpp_refuses(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        tiny("unetpp", **arguments)


# U-Net 3+


def test_unet3p_without_deep_supervision_has_the_finest_head() -> None:
    net = tiny("unet3p", deep_supervision=False)
    (head,) = net.run(image("unet3p")).heads
    assert head.shape == (1, 3, 32, 48)
    supervised = tiny("unet3p").state_dict()
    assert net.state_dict().keys() < supervised.keys()
