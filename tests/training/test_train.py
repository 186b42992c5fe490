"""Training: it learns, it resumes with bit-identical weights, and it refuses bad input."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.nn.modules.module import register_module_forward_hook

from edgeunet.errors import DatasetError, OutputError, ShapeError, UnknownNameError, UsageError
from edgeunet.files import locked
from edgeunet.models import list_models
from edgeunet.models.checkpoints import Checkpoint
from edgeunet.training import loop
from edgeunet.training.config import Progress, TrainConfig
from edgeunet.training.train import train
from support.training import SHORT


def test_loss_falls_and_the_best_epoch_is_kept(data: Path, tmp_path: Path) -> None:
    config = replace(SHORT, epochs=12, validate_every=4, learning_rate=1e-2)
    news: list[Progress] = []
    card = train(
        "mobile_unet", data, tmp_path, config=config, size=(96, 96), report=news.append, width=8
    )
    log = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert log[-1]["loss"] < 0.7 * log[0]["loss"]
    validated = {entry["epoch"]: entry["miou"] for entry in log if entry["miou"] is not None}
    assert list(validated) == [4, 8, 12]
    assert card.metrics["miou"] == max(validated.values())
    assert validated[card.training["best_epoch"]] == card.metrics["miou"]
    assert news[-1].done == 1.0
    opened = Checkpoint.open(tmp_path / "best.safetensors")
    net, read = opened.net, opened.card
    assert read == card
    assert net.num_classes == 3


# The papers' recipes work for small nets too.
TINY = {
    "eff_unet": {"width": 8},
    "mobile_unet": {"width": 8},
    "resunet": {"width": 4},
    "unet": {"width": 4},
    "unet3p": {"width": 4},
    "unetpp": {"width": 4},
}


@pytest.mark.parametrize("model", list_models())
def test_every_variant_learns_by_its_recipe(model: str, data: Path, tmp_path: Path) -> None:
    changes = {"epochs": 5, "validate_every": 5, "learning_rate": 1e-2}
    config = TrainConfig.for_model(model, crop=(64, 64), batch_size=4, amp=False, **changes)
    news: list[Progress] = []
    card = train(
        model, data, tmp_path, config=config, size=(96, 96), report=news.append, **TINY[model]
    )
    log = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    first, last = log[0]["loss"], log[-1]["loss"]
    floor = -1 if config.loss == "cross_entropy_pixel_dice" else 0
    assert last - floor < 0.9 * (first - floor)
    assert card.training["loss"] == config.loss
    assert all(0 < entry.rate < 1e6 for entry in news)
    assert news[-1].remaining == 0


@pytest.mark.parametrize("model", list_models())
def test_every_variant_trains_in_bf16(model: str, data: Path, tmp_path: Path) -> None:
    """A step of it: processors without BF16 take several times as long as in FP32."""
    config = TrainConfig.for_model(model, crop=(32, 32), epochs=1, batch_size=16)
    assert config.amp
    kinds: set[torch.dtype] = set()

    def seen(net: nn.Module, inputs: object, output: torch.Tensor) -> None:
        if net.training and isinstance(net, nn.Conv2d):
            kinds.add(output.dtype)

    with register_module_forward_hook(seen):
        card = train(model, data, tmp_path, config=config, size=(32, 32), **TINY[model])
    assert kinds == {torch.bfloat16}
    assert 0 <= card.metrics["miou"] <= 100


@pytest.mark.parametrize(("width", "last"), [(12, False), (16, True)])
def test_strided_shortcuts_are_narrow_in_the_contiguous_format_alone(
    width: int, last: bool, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else PyTorch would write beyond its memory on some processors: see `training_format`."""
    seen: set[bool] = set()
    forward = nn.Conv2d.forward

    def seeing(self: nn.Conv2d, features: torch.Tensor) -> torch.Tensor:
        if self.training and self.stride != (1, 1):
            seen.update(
                each.is_contiguous(memory_format=torch.channels_last)
                for each in (features, self.weight)
                if each.shape[1] > 1 and each.shape[2:].numel() > 1
            )
        return forward(self, features)

    monkeypatch.setattr(nn.Conv2d, "forward", seeing)
    config = replace(SHORT, crop=(32, 32), epochs=1, batch_size=16)
    train("resunet", data, tmp_path, config=config, size=(32, 32), width=width)
    assert seen == {last}


def test_unpadded_unet_trains_on_crops_with_context(data: Path, tmp_path: Path) -> None:
    config = TrainConfig.for_model(
        "unet", crop=(36, 52), epochs=2, batch_size=4, validate_every=2, amp=False
    )
    card = train("unet", data, tmp_path, config=config, size=(112, 112), width=4, padding="valid")
    assert card.metrics["miou"] > 0
    assert any((tmp_path / "weight_maps").iterdir())
    with pytest.raises(ShapeError, match=r"crops of 4 \+ 16 k"):
        train("unet", data, tmp_path / "x", config=replace(config, crop=(32, 32)), padding="valid")


def test_refuses_crops_that_the_net_cannot_take_before_images_are_read(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loop, "check_dataset", lambda *_: pytest.fail("images were read"))
    with pytest.raises(ShapeError, match="image is 60x64; MobileUNet needs multiples of 32"):
        train("mobile_unet", data, tmp_path, config=replace(SHORT, crop=(60, 64)))


def test_refuses_a_size_that_the_net_cannot_take_before_images_are_read(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loop, "check_dataset", lambda *_: pytest.fail("images were read"))
    with pytest.raises(ShapeError, match=r"size is 50x60; UNet needs .* Pass --size 64x64"):
        train("unet", data, tmp_path, config=SHORT, size=(50, 60), width=4)
    config = replace(SHORT, crop=(36, 52))
    with pytest.raises(ShapeError, match=r"image is 96x96; .* needs sides of 112 or more"):
        train("unet", data, tmp_path, config=config, size=(96, 96), width=4, padding="valid")


def test_gate_is_trained_and_calibrated(data: Path, tmp_path: Path) -> None:
    config = replace(SHORT, epochs=1)
    card = train("mobile_unet", data, tmp_path, config=config, size=(64, 64), width=8, cgm=True)
    net = Checkpoint.open(tmp_path / "best.safetensors").net
    assert card.arguments["cgm"] is True
    assert net.cgm is not None
    assert card.gate is not None and len(card.gate) == 3
    assert card.metrics["gate"]["images"] == 4
    assert card.metrics["miou"] > 0


def test_refuses_bad_arguments(data: Path, tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="does not exist"):
        train("mobile_unet", tmp_path / "nowhere", tmp_path / "run", config=SHORT)
    with pytest.raises(UnknownNameError, match="mobile_unet"):
        train("alexnet", data, tmp_path / "run", config=SHORT)
    with pytest.raises(UsageError, match="learning_rate is 0; expected more than 0"):
        TrainConfig(learning_rate=0.0)
    with pytest.raises(UsageError, match="elastic is -1; expected at least 0"):
        TrainConfig(elastic=-1.0)
    with pytest.raises(UsageError, match=r"scale is 1\.5 to 0\.5; the smaller zoom comes first"):
        TrainConfig(scale=(1.5, 0.5))
    with pytest.raises(UsageError, match="crop is 0, 64; expected at least 1"):
        TrainConfig(crop=(0, 64))
    with pytest.raises(UnknownNameError, match=r"unknown loss 'x'\. Known: cross_entropy_dice"):
        TrainConfig(loss="x")


def test_the_output_is_looked_at_first(data: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"kept")
    with pytest.raises(UsageError, match="file is a file; expected a directory"):
        train("unet", tmp_path / "nowhere", tmp_path / "file", config=SHORT)
    run = tmp_path / "run"
    with (
        locked(run, lock=run / ".edgeunet.lock"),
        pytest.raises(OutputError, match="run is being written by another run"),
    ):
        train("unet", data, run, config=SHORT, size=(96, 96), width=4)
    assert list(run.iterdir()) == []
