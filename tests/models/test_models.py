"""What all variants have in common."""

from __future__ import annotations

import pytest
import torch

from edgeunet.models import create_model
from support.variants import every_variant, image, parameters, shared, tiny

pytestmark = pytest.mark.usefixtures("no_gradients")  # switched on where needed


# Shapes


@every_variant
@pytest.mark.parametrize(("num_classes", "in_channels"), [(1, 1), (5, 4)])
def test_classes_and_channels(name: str, num_classes: int, in_channels: int) -> None:
    net = tiny(name, num_classes=num_classes, in_channels=in_channels)
    heads, _ = net.run(image(name, channels=in_channels))
    assert {head.shape[1] for head in heads} == {num_classes}


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
        heads, scores = net.run(image(name, batch=2))
        assert scores is not None
        # Squared: batch normalisation passes no gradient of a plain sum.
        loss = sum((head.square().sum() for head in heads), scores.square().sum())
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
