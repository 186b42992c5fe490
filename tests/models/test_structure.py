"""A structure rebuilds a net whose layers have other channels, or says what is wrong with it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from edgeunet.bundle.card import Card
from edgeunet.bundle.manifest import InputSpec
from edgeunet.errors import CheckpointError
from edgeunet.models import create_model, list_models
from edgeunet.models.checkpoints import Checkpoint, save_checkpoint
from edgeunet.models.structure import resize, structure_of

CARD = Card(
    model="unet",
    arguments={"num_classes": 2, "width": 8},
    classes=("a", "b"),
    palette=((0, 0, 0), (1, 1, 1)),
    input=InputSpec(16, 16),
    data="none",
)


@pytest.mark.parametrize("model", list_models())
def test_a_wide_net_takes_the_structure_of_a_narrow_one(model: str) -> None:
    # Half the width of 64: below, rounding gives backbones residuals that wider ones do not have.
    size = 32 if model in ("eff_unet", "mobile_unet") else 8
    narrow = create_model(model, num_classes=2, width=size, cgm=True).eval()
    wide = create_model(model, num_classes=2, width=2 * size, cgm=True).eval()
    structure = structure_of(narrow)
    resize(wide, structure, source="test")
    assert structure_of(wide) == structure
    wide.load_state_dict(narrow.state_dict())
    image = torch.rand(1, 3, 64, 64)
    for expected, found in zip(narrow(image), wide(image), strict=True):
        assert torch.equal(expected, found)


def test_the_card_carries_it(tmp_path: Path) -> None:
    net = create_model("unet", num_classes=2, width=8)
    structure = {**structure_of(net)}
    assert all(name in structure for name in ("encoder.0.0.0", "encoder.0.0.1", "encoder.0.1.0"))
    structure |= {"encoder.0.0.0": (3, 5), "encoder.0.0.1": (5, 5), "encoder.0.1.0": (5, 8)}
    resize(net, structure, source="test")
    path = tmp_path / "net.safetensors"
    save_checkpoint(path, net, replace(CARD, structure=structure))
    opened = Checkpoint.open(path)
    loaded, card = opened.net, opened.card
    assert card.structure == structure
    image = torch.rand(1, 3, 16, 16)
    assert torch.equal(loaded(image), net.eval()(image))


def test_what_does_not_fit_is_named() -> None:
    net = create_model("mobile_unet", num_classes=2, width=8)
    structure = structure_of(net)
    depthwise = next(
        name
        for name, module in net.named_modules()
        if isinstance(module, torch.nn.Conv2d) and module.groups > 1
    )
    with pytest.raises(CheckpointError, match="names layer other"):
        resize(net, {**structure, "other": (1, 1)}, source="card.json")
    with pytest.raises(CheckpointError, match="does not name layer"):
        resize(net, dict(list(structure.items())[1:]), source="card.json")
    with pytest.raises(CheckpointError, match="positive and equal"):
        resize(net, {**structure, depthwise: (8, 16)}, source="card.json")
    with pytest.raises(CheckpointError, match="must be positive"):
        resize(net, {**structure, "head": (0, 2)}, source="card.json")
