"""The stage of encoder and gate: what it teaches, what it leaves, how it resumes and refuses."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import load_file

from edgeunet.bundle.manifest import InputSpec
from edgeunet.data.check import Contents, check_dataset
from edgeunet.data.datasets import Dataset, open_dataset
from edgeunet.data.fit import Fit
from edgeunet.errors import UsageError
from edgeunet.gate.calibrate import collect_presence
from edgeunet.models import Checkpoint
from edgeunet.training import loop
from edgeunet.training.config import Progress
from edgeunet.training.gate_stage import GATE, stage_config
from edgeunet.training.train import train
from support.training import SHORT

STAGED = replace(SHORT, epochs=2, gate_epochs=2, encoder_rate=0.1)
NET: dict[str, Any] = {"size": (96, 96), "width": 8, "cgm": True}


@pytest.fixture(scope="module")
def staged(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("staged")
    news: list[Progress] = []
    train("mobile_unet", data, run, config=STAGED, report=news.append, **NET)
    assert list(dict.fromkeys(each.run for each in news)) == ["gate", "net"]
    assert [each.done for each in news] == sorted(each.done for each in news)
    assert news[-1].done == 1
    images = 16 * (STAGED.gate_epochs + STAGED.epochs)
    assert news[0].remaining * news[0].rate == pytest.approx((1 - news[0].done) * images)
    return run


def weights(run: Path) -> dict[str, np.ndarray]:
    return load_file(run / "best.safetensors")


def test_the_stage_teaches_encoder_and_gate_alone(data: Path, staged: Path, tmp_path: Path) -> None:
    train("mobile_unet", data, tmp_path, config=replace(STAGED, gate_epochs=1), **NET)
    before = weights(tmp_path / GATE)
    changed = {
        name.split(".")[0]
        for name, after in weights(staged / GATE).items()
        if not name.endswith(("running_mean", "running_var", "num_batches_tracked"))
        and (after != before[name]).any()
    }
    assert changed == {"encoder", "cgm"}


def test_the_card_tells_of_the_stage(staged: Path) -> None:
    card = Checkpoint.open(staged / "best.safetensors").card
    assert card.training["gate_epochs"] == 2 and card.training["encoder_rate"] == 0.1
    first = card.training["initial"]
    assert (first["crop"], first["epochs"], first["encoder_rate"]) == ([96, 96], 2, 1.0)
    assert card.gate is not None and card.metrics["gate"]["images"] == 4


@pytest.mark.parametrize("part", ["gate", "net"])
def test_resumes_to_the_same_bits(part: str, data: Path, staged: Path, tmp_path: Path) -> None:
    def stop(news: Progress) -> None:
        if (news.run, news.epoch) == (part, 1):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train("mobile_unet", data, tmp_path, config=STAGED, report=stop, **NET)
    train("mobile_unet", data, tmp_path, config=STAGED, **NET)
    wanted = weights(staged)
    assert all((wanted[name] == each).all() for name, each in weights(tmp_path).items())


def test_every_fold_has_a_stage_of_its_own(data: Path, tmp_path: Path) -> None:
    config = replace(STAGED, epochs=1, gate_epochs=1, with_val=True)
    news: list[Progress] = []
    card = train("mobile_unet", data, tmp_path, config=config, folds=2, report=news.append, **NET)
    names = dict.fromkeys(each.run.split(", ")[-1] for each in news if "fold 1" in each.run)
    assert list(names) == ["gate", "net"]
    assert all((tmp_path / "folds" / name / GATE / "best.safetensors").exists() for name in "12")
    assert card.metrics["gate"]["cross_fitted"] is True


def test_a_gate_learns_a_small_spot_in_a_whole_image(tmp_path: Path) -> None:
    rng = np.random.default_rng(4)
    for split, count in (("train", 32), ("val", 16)):
        for kind in ("images", "masks"):
            (tmp_path / "data" / split / kind).mkdir(parents=True)
        for index in range(count):
            image = rng.integers(80, 120, (96, 96, 3), np.uint8)
            mask = np.zeros((96, 96), np.uint8)
            if index % 2:
                row, column = rng.integers(4, 84, 2)
                spot = (slice(row, row + 8), slice(column, column + 8))
                image[spot], mask[spot] = rng.integers(150, 190, (8, 8, 3), np.uint8), 1
            Image.fromarray(image).save(tmp_path / "data" / split / "images" / f"{index}.png")
            Image.fromarray(mask).save(tmp_path / "data" / split / "masks" / f"{index}.png")
    told = {"name": "spots", "classes": ["clean", "spot"], "palette": [[0, 0, 0], [255, 0, 0]]}
    (tmp_path / "data" / "dataset.json").write_text(json.dumps(told))
    config = replace(SHORT, epochs=1, gate_epochs=20, learning_rate=5e-3, encoder_rate=0.1, ema=0.9)
    train("resunet", tmp_path / "data", tmp_path / "run", config=config, **NET)
    opened, data = Checkpoint.open(tmp_path / "run" / "best.safetensors"), tmp_path / "data"
    presence, pixels = collect_presence(
        opened.net, open_dataset(data), opened.card.input, split="val"
    )
    held = pixels[:, 1] > 0
    assert held.sum() == 8
    assert presence[held, 1].min() > 0.8 > 0.2 > presence[~held, 1].max()


def test_the_images_are_read_once_for_both(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Dataset] = []

    def look(dataset: Dataset, fit: Fit) -> Contents:
        seen.append(dataset)
        return check_dataset(dataset, fit)

    monkeypatch.setattr(loop, "check_dataset", look)
    config = replace(STAGED, epochs=1, gate_epochs=1)
    train("mobile_unet", data, tmp_path, config=config, **NET)
    assert len(seen) == 1


def test_the_stage_sees_whole_images() -> None:
    spec = InputSpec(height=64, width=96)
    config = stage_config(replace(STAGED, loss="hybrid", mix=0.5, patience=None), spec)
    assert config.crop == (64, 96) and config.epochs == 2 and not config.validates
    assert (config.gate_epochs, config.mix, config.encoder_rate) == (0, 0.0, 1.0)


def test_refuses_nets_that_cannot_have_it_before_images_are_read(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loop, "check_dataset", lambda *_: pytest.fail("images were read"))
    with pytest.raises(UsageError, match=r"--gate-epochs for a net without a gate\. Pass --cgm"):
        train("mobile_unet", data, tmp_path, config=STAGED, **{**NET, "cgm": False})
    unpadded = replace(STAGED, crop=(68, 68))
    with pytest.raises(UsageError, match=r"--gate-epochs with padding .valid.*--padding same"):
        train("unet", data, tmp_path, config=unpadded, padding="valid", **{**NET, "width": 4})
    with pytest.raises(UsageError, match="gate_epochs is -1; expected at least 0"):
        replace(STAGED, gate_epochs=-1)
