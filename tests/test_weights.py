"""The weights that come with the package: their cards, their size, and that they export."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from edgeunet.catalogue import WEIGHTS_DIR, find_weights, list_weights
from edgeunet.exporting import ExportOptions, export_bundle
from edgeunet.models import list_models
from edgeunet.models.checkpoints import Checkpoint
from support.checkpoints import read

TAGGED = [(model, tag) for model in list_models() for tag in list_weights(model)]
every_weights = pytest.mark.parametrize(("model", "tag"), TAGGED)


def test_they_keep_the_package_light() -> None:
    sizes = {path.name: path.stat().st_size for path in WEIGHTS_DIR.glob("*.safetensors")}
    assert max(sizes.values()) <= 10_000_000
    assert sum(sizes.values()) <= 40_000_000
    assert {path.stem for path in WEIGHTS_DIR.glob("*.json")} == {name[:-12] for name in sizes}


@every_weights
def test_cards_tell_how_good_they_are_and_how_they_were_made(model: str, tag: str) -> None:
    opened = Checkpoint.open(tag, model)
    net, card = opened.net, opened.card
    assert card.model == model
    assert tag in (card.data, f"{card.data}_light")
    if card.training.get("with_val"):
        assert card.metrics == {}, "val was trained on: it judges nothing"
    else:
        assert 0 < card.metrics["miou"] <= 100
        assert len(card.metrics["dice"]) == len(card.metrics["iou"]) == len(card.classes)
    assert {"epochs", "minutes", "seed"} <= set(card.training)
    assert (net.cgm is None) == (card.gate is None)


@every_weights
def test_weights_are_finite_halves(model: str, tag: str) -> None:
    for name, tensor in read(find_weights(model, tag)).items():
        assert bool(tensor.isfinite().all()), name
        assert tensor.element_size() == 2, name


SIZE = 128, 128
"""Of the input: a quarter of the pixels, which takes a third of the time."""


@pytest.mark.parametrize(
    "model",
    [
        pytest.param(model, marks=pytest.mark.slow(seconds=20))
        for model, tag in TAGGED
        if tag == "cells" and model != "mobile_unet"
    ],
)
def test_default_weights_export_to_int8_within_tolerance(model: str, tmp_path: Path) -> None:
    options = ExportOptions(model, precision="int8", size=SIZE)
    report = export_bundle(tmp_path / "bundle", options)
    assert report.first_failure is None, report.table()


@pytest.mark.slow
def test_those_of_mobile_unet_do_so_at_their_own_size(cells_bundle: Path) -> None:
    report = json.loads((cells_bundle / "parity.json").read_text())
    assert report["precision"] == "int8"
    assert report["first_failure"] is None, report["stages"]
