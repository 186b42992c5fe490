"""`edgeunet models`."""

from __future__ import annotations

from edgeunet.catalogue import VARIANTS, list_weights
from support.commands import data


def test_models_gives_parameters_arithmetic_and_weights() -> None:
    rows = {row["name"]: row for row in data("models", "--size", "512x640")}
    assert list(rows) == list(VARIANTS)
    assert rows["mobile_unet"]["parameters"] == 2_376_826
    assert rows["mobile_unet"]["gflops"] == round(VARIANTS["mobile_unet"].flops(512, 640) / 1e9, 2)
    tags = {name: [entry["tag"] for entry in row["weights"]] for name, row in rows.items()}
    assert tags == {name: list_weights(name) for name in VARIANTS}
