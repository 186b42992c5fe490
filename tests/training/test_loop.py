"""The loop: resumed, stopped, and killed."""

from __future__ import annotations

import json
import math
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from edgeunet.bundle.manifest import InputSpec
from edgeunet.data.datasets import open_dataset
from edgeunet.errors import TrainingError, UsageError
from edgeunet.models.checkpoints import Checkpoint
from edgeunet.models.reference import Evaluation
from edgeunet.training import loop, state
from edgeunet.training.config import Progress, TrainConfig
from edgeunet.training.loop import Trainer
from edgeunet.training.losses import LOSSES
from edgeunet.training.train import train
from support.training import SHORT


def test_number_of_workers_does_not_change_the_weights(data: Path, tmp_path: Path) -> None:
    found = []
    for workers in (0, 2):
        output = tmp_path / str(workers)
        config = replace(SHORT, epochs=2)
        train("mobile_unet", data, output, config=config, size=(64, 64), width=8, workers=workers)
        found.append(load_file(output / "best.safetensors"))
    assert all((found[0][name] == found[1][name]).all() for name in found[0])


def test_nan_loss_stops_the_run_and_keeps_saved_files(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = replace(SHORT, validate_every=1)
    arguments = {"config": config, "size": (64, 64), "width": 8}

    factor = [1.0]
    plain = LOSSES[config.loss]
    monkeypatch.setitem(LOSSES, config.loss, lambda *given: plain(*given) * factor[0])

    def spoil(news: Progress) -> None:
        if news.epoch == 2:
            factor[0] = math.nan

    with pytest.raises(TrainingError, match=r"loss is nan in step 1 of epoch 3.*--lr"):
        train("mobile_unet", data, tmp_path, report=spoil, **arguments)
    opened = Checkpoint.open(tmp_path / "best.safetensors")
    net, card = opened.net, opened.card
    assert card.training["best_epoch"] <= 2
    assert all(bool(tensor.isfinite().all()) for tensor in net.state_dict().values())
    factor[0] = 1.0
    train("mobile_unet", data, tmp_path, **arguments)  # resumes after the second epoch
    assert len((tmp_path / "log.jsonl").read_text().splitlines()) == config.epochs


def test_full_disk_keeps_the_earlier_checkpoint(data: Path, tmp_path: Path) -> None:
    """A limit on file sizes replaces the full disk: both end a write half way."""
    config = replace(SHORT, epochs=1)
    train("mobile_unet", data, tmp_path, config=config, size=(64, 64), width=8)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    script = (
        "import resource, sys\n"
        "from edgeunet.models.checkpoints import Checkpoint, save_checkpoint\n"
        "from pathlib import Path\n"
        "path = Path(sys.argv[1])\n"
        "opened = Checkpoint.open(path)\n"
        "net, card = opened.net, opened.card\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))\n"
        "save_checkpoint(path, net, card)\n"
    )
    command = [sys.executable, "-c", script, str(tmp_path / "best.safetensors")]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert "File too large" in result.stderr
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_interrupted_run_resumes_with_bit_identical_weights(data: Path, tmp_path: Path) -> None:
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    train("mobile_unet", data, whole, config=SHORT, size=(64, 64), width=8)

    class Stopped(Exception):
        pass

    def stop(news: Progress) -> None:
        if news.epoch == 2:
            raise Stopped

    with pytest.raises(Stopped):
        train("mobile_unet", data, parts, config=SHORT, size=(64, 64), width=8, report=stop)
    (parts / "log.jsonl").unlink()  # as if the run was killed before it wrote the log
    train("mobile_unet", data, parts, config=SHORT, size=(64, 64), width=8)
    expected, found = (load_file(path / "best.safetensors") for path in (whole, parts))
    assert all((expected[name] == found[name]).all() for name in expected)
    assert losses(parts) == losses(whole)


def test_mixing_and_changed_light_resume_with_bit_identical_weights(
    data: Path, tmp_path: Path
) -> None:
    config = replace(SHORT, epochs=2, mix=0.5, photometry="camera")
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    train("mobile_unet", data, whole, config=config, size=(64, 64), width=8)

    def stop(news: Progress) -> None:
        if news.epoch == 1:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train("mobile_unet", data, parts, config=config, size=(64, 64), width=8, report=stop)
    train("mobile_unet", data, parts, config=config, size=(64, 64), width=8)
    assert losses(parts) == losses(whole)
    expected, found = (load_file(path / "best.safetensors") for path in (whole, parts))
    assert all((expected[name] == found[name]).all() for name in expected)


def test_state_is_saved_less_often_if_that_takes_longer_than_epochs(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run then resumes from an earlier epoch, to the same weights."""
    saved: list[int] = []
    save = Trainer._save_state

    def noted(trainer: Trainer) -> None:
        saved.append(trainer.epoch)
        save(trainer)

    monkeypatch.setattr(Trainer, "_save_state", noted)
    monkeypatch.setattr(state, "_PAUSE", 1e9)
    config = replace(SHORT, validate_every=3)
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    train("mobile_unet", data, whole, config=config, size=(64, 64), width=8)
    assert saved == [1, 3, 4]  # the first one, what was validated, and the last one

    def stop(news: Progress) -> None:
        if news.epoch == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train("mobile_unet", data, parts, config=config, size=(64, 64), width=8, report=stop)
    assert [epoch for epoch, _ in losses(parts)] == [1]
    train("mobile_unet", data, parts, config=config, size=(64, 64), width=8)
    assert losses(parts) == losses(whole)


def test_with_val_trains_on_both_and_keeps_the_last_epoch(data: Path, tmp_path: Path) -> None:
    config, dataset = replace(SHORT, epochs=2, with_val=True), open_dataset(data)
    arguments = {"spec": InputSpec(64, 64), "config": config, "width": 8}
    trainer = Trainer("mobile_unet", dataset, tmp_path, **arguments)
    paths = [sample.image for sample in trainer.crops.samples]
    assert paths == [each.image for name in ("train", "val") for each in dataset.samples(name)]
    focused = {image for _, images in trainer.crops.focus.holders for image in images}
    assert focused & set(range(16)) and focused & set(range(16, 20))
    card = trainer.run()
    assert card.metrics == {}
    assert card.training is not None and card.training["best_epoch"] == 2
    assert card.training["with_val"] is True
    assert [entry.miou for entry in trainer.history.epochs] == [None, None]


def test_a_run_whose_miou_does_not_rise_is_stopped_and_resumes_to_the_same_bits(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The mIoU is made up: it rises to epoch 4, is as high in epoch 6, and higher in epoch 10."""
    right = {2: 5, 4: 7, 6: 7, 8: 6, 10: 9}

    def evaluated(predict: Any, *_: object, **__: object) -> Evaluation:
        epoch = predict.func.__self__.epoch
        confusion = np.array([[right[epoch], 9 - right[epoch]], [0, 9]])
        return Evaluation(confusion, 1.0, ("a", "b"), (50.0,) * 4)

    monkeypatch.setattr(loop, "evaluate_on", evaluated)
    config = replace(SHORT, crop=(32, 32), epochs=12, batch_size=16, validate_every=2, patience=3)
    spec, dataset = InputSpec(32, 32), open_dataset(data)

    def trainer(output: Path) -> Trainer:
        output.mkdir(exist_ok=True)
        return Trainer("mobile_unet", dataset, output, spec=spec, config=config, width=8)

    def kept(output: Path) -> dict[str, Any]:
        return torch.load(output / "last.pt", weights_only=True)

    whole, parts = tmp_path / "whole", tmp_path / "parts"
    card = trainer(whole).run()
    assert card.training is not None and card.training["best_epoch"] == 4
    assert [epoch for epoch, _ in losses(whole)] == list(range(1, 9))
    assert caplog.messages[-1:] == [
        "stopped after epoch 8 of 12: val's mIoU has not risen since epoch 4."
    ]

    def stop(news: Progress) -> None:
        if news.epoch == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        trainer(parts).run(stop)
    for _ in range(2):  # the second time it has stopped already
        resumed = trainer(parts)
        assert resumed.resume()
        resumed.run()
        assert losses(parts) == losses(whole)
        assert (
            torch.equal(*(flat(kept(output)["net"]) for output in (whole, parts)))
            and kept(whole)["found"] == kept(parts)["found"]
        )


def flat(tensors: dict[str, torch.Tensor]) -> torch.Tensor:
    return torch.cat([tensor.flatten().double() for tensor in tensors.values()])


def test_with_val_refuses_a_gate(data: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="thresholds are found on val"):
        train(
            "unet3p", data, tmp_path, config=replace(SHORT, with_val=True), size=(64, 64), cgm=True
        )


def losses(run: Path) -> list[tuple[int, float]]:
    lines = (run / "log.jsonl").read_text().splitlines()
    return [(entry["epoch"], entry["loss"]) for entry in map(json.loads, lines)]


def test_killed_run_leaves_complete_files_and_can_be_resumed(data: Path, tmp_path: Path) -> None:
    command = [
        *(sys.executable, "-m", "edgeunet", "train", "--model", "mobile_unet"),
        *("--data", str(data), "--width", "8", "--size", "64x64", "--crop", "64x64"),
        *("--epochs", "200", "--batch", "4", "--no-amp", "-o", str(tmp_path / "run")),
    ]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while not (tmp_path / "run" / "log.jsonl").exists():
        assert process.poll() is None, "training ended by itself"
        assert time.monotonic() < deadline
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    log = (tmp_path / "run" / "log.jsonl").read_text().splitlines()
    config = TrainConfig(crop=(64, 64), epochs=200, batch_size=4, amp=False)
    trainer = Trainer(
        "mobile_unet",
        open_dataset(data),
        tmp_path / "run",
        spec=InputSpec(64, 64),
        config=config,
        width=8,
    )
    assert trainer.resume()
    assert trainer.epoch >= len(log) > 0
