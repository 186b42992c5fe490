"""`edgeunet models`."""

from __future__ import annotations

import pytest

from edgeunet.models.checkpoints import list_weights
from support.commands import data

VARIANTS = ["eff_unet", "mobile_unet", "resunet", "unet", "unet3p", "unetpp"]


# models, doctor


def test_models_gives_parameters_and_arithmetic() -> None:
    small, large = (
        {row["name"]: row for row in data("models", "--size", size)}
        for size in ("256x320", "512x640")
    )
    assert sorted(small) == VARIANTS
    assert small["mobile_unet"]["parameters"] == 2_376_826
    tags = {name: [entry["tag"] for entry in row["weights"]] for name, row in small.items()}
    assert tags == {name: list_weights(name) for name in VARIANTS}
    # Convolutions do four times as much; what sees one vector an image does not grow.
    growth = {name: large[name]["gflops"] / small[name]["gflops"] for name in VARIANTS}
    assert growth == pytest.approx(dict.fromkeys(VARIANTS, 4.0), abs=0.02)
