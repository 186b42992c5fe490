"""Training: it learns, it resumes with bit-identical weights, and it refuses bad input."""

from __future__ import annotations

import json
import math
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from edgeunet.bundle.manifest import InputSpec
from edgeunet.data.cells import write_dataset
from edgeunet.data.datasets import default_palette, open_dataset
from edgeunet.errors import (
    CheckpointError,
    DatasetError,
    ShapeError,
    TrainingError,
    UnknownNameError,
    UsageError,
)
from edgeunet.models import create_model, list_models
from edgeunet.models.checkpoints import Card, Checkpoint, find_weights, save_checkpoint
from edgeunet.models.depth import prune_depth
from edgeunet.models.structure import structure_of
from edgeunet.pruning.channels import prune_channels
from edgeunet.training.config import Progress, TrainConfig
from edgeunet.training.loop import Trainer
from edgeunet.training.losses import LOSSES
from edgeunet.training.train import train
from support.originals import mobilenet_v2

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
    config = TrainConfig.for_model(
        model, crop=(64, 64), epochs=5, batch_size=4, validate_every=5, learning_rate=1e-2
    )
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


def test_narrow_strided_shortcuts_do_not_crash(tmp_path: Path) -> None:
    """Runs in its own process, because a failure is a segmentation fault."""
    write_dataset(tmp_path / "data", train=4, val=1, height=160, width=192, seed=0)
    command = [
        *(sys.executable, "-m", "edgeunet", "train", "--model", "resunet", "--width", "12"),
        *("--data", str(tmp_path / "data"), "--crop", "160x192", "--batch", "4"),
        *("--epochs", "3", "-o", str(tmp_path / "run")),
    ]
    subprocess.run(command, check=True, capture_output=True)


def test_unpadded_unet_trains_on_crops_with_context(data: Path, tmp_path: Path) -> None:
    config = TrainConfig.for_model("unet", crop=(36, 52), epochs=2, batch_size=4, validate_every=2)
    card = train("unet", data, tmp_path, config=config, size=(112, 112), width=4, padding="valid")
    assert card.metrics["miou"] > 0
    assert any((tmp_path / "weight_maps").iterdir())
    with pytest.raises(ShapeError, match=r"crops of 4 \+ 16 k"):
        train("unet", data, tmp_path / "x", config=replace(config, crop=(32, 32)), padding="valid")


def test_refuses_crops_that_the_net_cannot_take(data: Path, tmp_path: Path) -> None:
    with pytest.raises(ShapeError, match="image is 60x64; MobileUNet needs multiples of 32"):
        train("mobile_unet", data, tmp_path, config=replace(SHORT, crop=(60, 64)))


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


def losses(run: Path) -> list[tuple[int, float]]:
    lines = (run / "log.jsonl").read_text().splitlines()
    return [(entry["epoch"], entry["loss"]) for entry in map(json.loads, lines)]


def test_killed_run_leaves_complete_files_and_can_be_resumed(data: Path, tmp_path: Path) -> None:
    command = [
        *(sys.executable, "-m", "edgeunet", "train", "--model", "mobile_unet"),
        *("--data", str(data), "--width", "8", "--size", "64x64", "--crop", "64x64"),
        *("--epochs", "200", "--batch", "4", "-o", str(tmp_path / "run")),
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
    config = TrainConfig(crop=(64, 64), epochs=200, batch_size=4)
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


def test_training_keeps_the_channels_of_a_pruned_net(data: Path, tmp_path: Path) -> None:
    once = replace(SHORT, epochs=1)
    card = train("unet", data, tmp_path / "whole", config=once, size=(64, 64), width=4)
    net = Checkpoint.open(tmp_path / "whole" / "best.safetensors").net
    pruned = prune_channels(net, open_dataset(data), ratio=0.5, spec=card.input)
    structure = structure_of(pruned)
    initial = tmp_path / "pruned.safetensors"
    save_checkpoint(initial, pruned, replace(card, structure=structure))
    run = tmp_path / "run"
    for _ in range(2):  # the second resumes the first
        tuned = train("unet", data, run, config=once, size=(64, 64), initial=initial, width=4)
        assert tuned.structure == structure
        assert structure_of(Checkpoint.open(run / "best.safetensors").net) == structure
    with pytest.raises(CheckpointError, match="belongs to another run"):
        train("unet", data, run, config=once, size=(64, 64), width=4)


def test_training_starts_from_a_depth_pruned_net(data: Path, tmp_path: Path) -> None:
    once = replace(SHORT, epochs=1, learning_rate=1e-9)
    whole = train("unetpp", data, tmp_path / "whole", config=once, size=(64, 64), width=4)
    net = Checkpoint.open(tmp_path / "whole" / "best.safetensors").net
    pruned, card = prune_depth(net, whole, depth=2)
    initial = tmp_path / "pruned.safetensors"
    save_checkpoint(initial, pruned, card)
    tuned = train("unetpp", data, tmp_path / "run", config=once, size=(64, 64), initial=initial)
    assert tuned.arguments == card.arguments
    assert tuned.training["initial"]["pruned"] == [{"depth": 2, "of": 4}]


def test_training_starts_from_a_net_with_other_classes(data: Path, tmp_path: Path) -> None:
    """Body and input come from the checkpoint; layers that output classes are fresh."""
    once = replace(SHORT, epochs=1, learning_rate=1e-9)
    spec = InputSpec(32, 32, color="gray", resize="pad", mean=(0.5,), std=(0.25,))
    arguments = {"num_classes": 5, "in_channels": 1, "width": 4}
    net = create_model("unet", **arguments)
    card = Card("unet", arguments, tuple("abcde"), default_palette(5), spec, "letters")
    initial = tmp_path / "initial.safetensors"
    save_checkpoint(initial, net, card)
    run = tmp_path / "run"
    tuned = train("unet", data, run, config=once, size=(64, 64), initial=initial, cgm=True)
    assert tuned.arguments == {"num_classes": 3, "in_channels": 1, "width": 4, "cgm": True}
    assert tuned.input == replace(spec, height=64, width=64)
    found = Checkpoint.open(run / "best.safetensors").net
    body = [name for name in net.state_dict() if name.endswith("0.weight") and "head" not in name]
    assert len(body) == 18
    for name in body:
        kept = net.state_dict()[name]
        torch.testing.assert_close(found.state_dict()[name], kept, rtol=1e-3, atol=1e-4)


def test_pruned_net_trains_on_other_classes(data: Path, tmp_path: Path) -> None:
    once = replace(SHORT, epochs=1, learning_rate=1e-9)
    net = prune_channels(
        create_model("unet", num_classes=3, width=4),
        open_dataset(data),
        ratio=0.5,
        spec=InputSpec(64, 64),
    )
    net.head = torch.nn.Conv2d(net.head.in_channels, 5, 1)
    card = Card(
        "unet",
        {"num_classes": 5, "width": 4},
        tuple("abcde"),
        default_palette(5),
        InputSpec(64, 64),
        "letters",
        structure=structure_of(net),
    )
    initial = tmp_path / "initial.safetensors"
    save_checkpoint(initial, net, card)
    tuned = train("unet", data, tmp_path / "run", config=once, size=(64, 64), initial=initial)
    kept = structure_of(net)
    assert tuned.structure == {**kept, "head": (kept["head"][0], 3)}


def test_refuses_weights_of_another_variant(data: Path, tmp_path: Path) -> None:
    initial = find_weights("unet", "cells")
    with pytest.raises(CheckpointError, match=r"is a checkpoint of unet; unetpp was asked for"):
        train("unetpp", data, tmp_path, config=SHORT, initial=initial)


def test_gate_is_trained_and_calibrated(data: Path, tmp_path: Path) -> None:
    config = replace(SHORT, epochs=1)
    card = train("mobile_unet", data, tmp_path, config=config, size=(64, 64), width=8, cgm=True)
    net = Checkpoint.open(tmp_path / "best.safetensors").net
    assert card.arguments["cgm"] is True
    assert net.cgm is not None
    assert card.gate is not None and len(card.gate) == 3
    assert card.metrics["gate"]["images"] == 4
    assert card.metrics["miou"] > 0


def test_refuses_an_output_of_another_run(data: Path, tmp_path: Path) -> None:
    once = replace(SHORT, epochs=1)
    train("mobile_unet", data, tmp_path, config=once, size=(64, 64), width=8)
    with pytest.raises(CheckpointError, match="belongs to another run"):
        train("mobile_unet", data, tmp_path, config=replace(once, seed=1), size=(64, 64), width=8)


def test_refuses_a_damaged_state(data: Path, tmp_path: Path) -> None:
    (tmp_path / "last.pt").write_bytes(b"not a state")
    with pytest.raises(CheckpointError, match="cannot be read"):
        train("mobile_unet", data, tmp_path, config=SHORT, size=(64, 64), width=8)


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


def test_training_starts_from_a_classifiers_encoder(data: Path, tmp_path: Path) -> None:
    classifier = mobilenet_v2()
    torch.save(classifier.state_dict(), tmp_path / "mobilenet_v2.pth")
    config = replace(SHORT, epochs=1, learning_rate=1e-9)
    card = train(
        "mobile_unet",
        data,
        tmp_path / "run",
        config=config,
        size=(64, 64),
        encoder=tmp_path / "mobilenet_v2.pth",
    )
    assert card.training["initial"] == {"encoder": "mobilenet_v2.pth"}
    net = Checkpoint.open(tmp_path / "run" / "best.safetensors").net
    found = net.get_submodule("encoder.stem.0").weight
    torch.testing.assert_close(found, classifier.features[0][0].weight, rtol=1e-3, atol=1e-4)
