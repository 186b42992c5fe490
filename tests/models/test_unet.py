"""The U-Net: padding and upsampling."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from edgeunet.errors import ShapeError, UsageError
from edgeunet.models import create_model
from support.variants import image, parameters, tiny

pytestmark = pytest.mark.usefixtures("no_gradients")  # switched on where needed


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
    with pytest.raises(UsageError, match=r"unknown padding 'reflect'\. Known: same, valid"):
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
        UsageError, match=r"unknown upsampling 'nearest'\. Known: bilinear, transposed"
    ):
        tiny("unet", upsampling="nearest")
