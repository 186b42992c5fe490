"""Training: it learns, it resumes bit for bit, and it refuses what does not fit."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
from safetensors.torch import load_file

from edgeunet.errors import CheckpointError, DatasetError, UnknownNameError, UsageError
from edgeunet.models.checkpoints import load_checkpoint, save_checkpoint
from edgeunet.models.structure import structure_of
from edgeunet.training.cells import write_dataset
from edgeunet.training.data import open_dataset
from edgeunet.training.loop import Progress, TrainConfig, Trainer
from edgeunet.training.prune_channels import prune_channels
from edgeunet.training.train import train

SHORT = TrainConfig(crop=(64, 64), epochs=4, batch_size=4, validate_every=2, amp=False)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("train") / "data"
    write_dataset(path, train=16, val=4, height=96, width=96, seed=3)
    return path


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
    net, read = load_checkpoint(tmp_path / "best.safetensors")
    assert read == card
    assert net.num_classes == 3


def test_a_run_that_was_stopped_goes_on_bit_for_bit(data: Path, tmp_path: Path) -> None:
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    train("mobile_unet", data, whole, config=SHORT, size=(64, 64), width=8)

    class Stopped(Exception):
        pass

    def stop(news: Progress) -> None:
        if news.epoch == 2:
            raise Stopped

    with pytest.raises(Stopped):
        train("mobile_unet", data, parts, config=SHORT, size=(64, 64), width=8, report=stop)
    train("mobile_unet", data, parts, config=SHORT, size=(64, 64), width=8)
    expected, found = (load_file(path / "best.safetensors") for path in (whole, parts))
    assert all((expected[name] == found[name]).all() for name in expected)


def test_a_killed_run_leaves_whole_files_and_can_be_resumed(data: Path, tmp_path: Path) -> None:
    command = [
        *(sys.executable, "-m", "edgeunet", "train", "--model", "mobile_unet"),
        *("--data", str(data), "--width", "8", "--size", "64x64", "--crop", "64x64"),
        *("--epochs", "200", "--batch", "4", "-o", str(tmp_path / "run")),
    ]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while not (tmp_path / "run" / "last.pt").exists():
        assert process.poll() is None, "training ended by itself"
        assert time.monotonic() < deadline
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    log = (tmp_path / "run" / "log.jsonl").read_text().splitlines()
    config = TrainConfig(crop=(64, 64), epochs=200, batch_size=4)
    from edgeunet.manifest import InputSpec
    from edgeunet.training.data import open_dataset

    trainer = Trainer(
        "mobile_unet",
        open_dataset(data),
        tmp_path / "run",
        spec=InputSpec(64, 64),
        config=config,
        cgm=False,
        width=8,
    )
    assert trainer.resume()
    assert trainer.epoch >= len(log) > 0


def test_training_goes_on_with_the_channels_of_a_pruned_net(data: Path, tmp_path: Path) -> None:
    once = replace(SHORT, epochs=1)
    card = train("unet", data, tmp_path / "whole", config=once, size=(64, 64), width=4)
    net, _ = load_checkpoint(tmp_path / "whole" / "best.safetensors")
    pruned = prune_channels(net, open_dataset(data), ratio=0.5, spec=card.input)
    structure = structure_of(pruned)
    initial = tmp_path / "pruned.safetensors"
    save_checkpoint(initial, pruned, replace(card, structure=structure))
    run = tmp_path / "run"
    for _ in range(2):  # the second takes up what the first has ended
        tuned = train("unet", data, run, config=once, size=(64, 64), initial=initial, width=4)
        assert tuned.structure == structure
        assert structure_of(load_checkpoint(run / "best.safetensors")[0]) == structure
    with pytest.raises(CheckpointError, match="belongs to another run"):
        train("unet", data, run, config=once, size=(64, 64), width=4)


def test_the_gate_learns_along(data: Path, tmp_path: Path) -> None:
    config = replace(SHORT, epochs=1)
    card = train("mobile_unet", data, tmp_path, config=config, size=(64, 64), width=8, cgm=True)
    net, _ = load_checkpoint(tmp_path / "best.safetensors")
    assert card.arguments["cgm"] is True
    assert net.cgm is not None


def test_another_run_in_the_same_place_is_refused(data: Path, tmp_path: Path) -> None:
    once = replace(SHORT, epochs=1)
    train("mobile_unet", data, tmp_path, config=once, size=(64, 64), width=8)
    with pytest.raises(CheckpointError, match="belongs to another run"):
        train("mobile_unet", data, tmp_path, config=replace(once, seed=1), size=(64, 64), width=8)


def test_a_damaged_state_is_refused(data: Path, tmp_path: Path) -> None:
    (tmp_path / "last.pt").write_bytes(b"not a state")
    with pytest.raises(CheckpointError, match="cannot be read"):
        train("mobile_unet", data, tmp_path, config=SHORT, size=(64, 64), width=8)


def test_bad_calls_are_refused(data: Path, tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="does not exist"):
        train("mobile_unet", tmp_path / "nowhere", tmp_path / "run", config=SHORT)
    with pytest.raises(UnknownNameError, match="mobile_unet"):
        train("alexnet", data, tmp_path / "run", config=SHORT)
    with pytest.raises(UsageError, match="must be positive"):
        TrainConfig(learning_rate=0.0)
