"""Variants by name."""

from __future__ import annotations

import pytest

from edgeunet.errors import UnknownNameError, UsageError
from edgeunet.models import UNet, UNetPP, create_model, list_models, model_class, register_model
from support.variants import VARIANTS, every_variant

pytestmark = pytest.mark.usefixtures("no_gradients")  # switched on where needed


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
