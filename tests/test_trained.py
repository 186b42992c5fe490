"""Accuracy of the committed weights on real data; `camvid` has its own tests."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from edgeunet.data.datasets import Dataset, open_dataset
from edgeunet.gate.calibrate import collect_presence
from edgeunet.gate.report import gate_report
from edgeunet.models.checkpoints import Checkpoint
from edgeunet.models.reference import validate

pytestmark = [pytest.mark.data, pytest.mark.slow]


@pytest.fixture(scope="module")
def tiles(data_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """Magnetic tiles with all kinds of defects merged into one class, as in training."""
    kinds = ["blowhole", "break", "crack", "fray", "uneven"]
    view = {"source": str(data_folder / "magnetic_tile"), "merge": {"defect": kinds}}
    root = tmp_path_factory.mktemp("tiles")
    (root / "dataset.json").write_text(json.dumps(view))
    return open_dataset(root)


@pytest.mark.parametrize("model", ["mobile_unet", "unet3p"])
def test_gate_separates_flawless_tiles_from_defective_ones(tiles: Dataset, model: str) -> None:
    opened = Checkpoint.open("magnetic_tile", model)
    net, card = opened.net, opened.card
    assert card.gate is not None
    presence, pixels = collect_presence(net, tiles, card.input)
    found = gate_report(presence, pixels, thresholds=card.gate, classes=card.classes)
    assert (found.images, found.empty) == (203, 143)
    assert found.open_filled is not None and found.open_filled >= 0.98
    assert found.skipped_empty is not None and found.skipped_empty >= 0.85


def test_unetpp_finds_membranes(data_folder: Path) -> None:
    opened = Checkpoint.open("em_membrane", "unetpp")
    net, card = opened.net, opened.card
    found = validate(net, open_dataset(data_folder / "em_membrane"), spec=card.input)
    membrane, cell = found["iou"]
    assert membrane >= 69
    assert cell >= 90
    assert found["boundary_f1"] >= 92
