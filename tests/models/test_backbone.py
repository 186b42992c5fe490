"""Encoders with published weights."""

from __future__ import annotations

import pytest
import torch

from edgeunet.models import create_model
from support.variants import parameters

pytestmark = pytest.mark.usefixtures("no_gradients")  # switched on where needed


# Sizes


@pytest.mark.parametrize(("name", "count"), [("mobile_unet", 1_811_712), ("eff_unet", 3_595_388)])
def test_parameters_of_published_encoders(name: str, count: int) -> None:
    with torch.device("meta"):
        encoder = create_model(name, num_classes=2).encoder
    assert isinstance(encoder, torch.nn.Module)
    assert parameters(encoder) == count
