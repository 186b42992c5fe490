"""`edgeunet prune`: smaller checkpoints, their measurements, and refused input."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from edgeunet.bundle.manifest import InputSpec
from edgeunet.bundle.schema import encode
from edgeunet.data.cells import CLASSES, PALETTE, write_dataset
from edgeunet.data.datasets import open_dataset
from edgeunet.errors import CheckpointError, DatasetError, OutputExistsError, UsageError
from edgeunet.latency import median_latencies
from edgeunet.models import create_model
from edgeunet.models.checkpoints import Card, Checkpoint, read_card, save_checkpoint
from edgeunet.models.reference import validate
from edgeunet.models.structure import structure_of
from edgeunet.models.summary import count
from edgeunet.pruning.prune import PruneOptions, prune

TRAINING = {"crop": [64, 64], "batch_size": 2, "epochs": 90, "validate_every": 1, "amp": False}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("prune") / "data"
    write_dataset(path, train=4, val=2, height=64, width=64, seed=3)
    return path


@pytest.fixture(autouse=True)
def _timed_shortly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "edgeunet.pruning.prune.median_latencies", partial(median_latencies, rounds=1)
    )


def saved(folder: Path, model: str = "unet", *, half: bool = False, **arguments: Any) -> Path:
    """A checkpoint of a tiny net with random weights, in its own folder."""
    torch.manual_seed(0)
    arguments = {"num_classes": 3, "width": 4, **arguments}
    card = Card(
        model=model,
        arguments=arguments,
        classes=CLASSES,
        palette=PALETTE,
        input=InputSpec(64, 64),
        data="cells",
        metrics={"miou": 71.25},
        training=TRAINING,
        gate=(0.25, 0.5, 0.75) if arguments.get("cgm") else None,
    )
    path = folder / "source" / "whole.safetensors"
    save_checkpoint(path, create_model(model, **arguments), card, half=half)
    return path


def by_ratio(source: Path, data: Path, *, epochs: int, ratio: float = 0.5) -> PruneOptions:
    return PruneOptions("unet", str(source), ratio=ratio, data=data, finetune_epochs=epochs)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_channels_without_fine_tuning(data: Path, tmp_path: Path) -> None:
    source, output = saved(tmp_path, half=True, cgm=True), tmp_path / "small.safetensors"
    said: list[str] = []
    report = prune(output, by_ratio(source, data, epochs=0), report=said.append)
    assert names(tmp_path) == ["small.json", "small.safetensors", "source"]
    before, pruned = report.rows
    assert (before.name, pruned.name) == ("before", "pruned")
    opened = Checkpoint.open(output)
    net, card = opened.net, opened.card
    cost = count(net, height=64, width=64)
    assert (pruned.parameters, pruned.gflops) == (cost.parameters, round(cost.gflops, 4))
    assert pruned.parameters < 0.3 * before.parameters
    assert min(before.latency_ms, pruned.latency_ms) > 0
    assert card.structure == structure_of(net)
    assert card.metrics == validate(net, open_dataset(data), spec=card.input)
    assert pruned.miou == card.metrics["miou"]
    assert before.miou not in (None, 71.25), "measured, not taken from the card"
    assert card.training["epochs"] == 90
    assert card.training["pruned"][0]["ratio"] == 0.5
    assert {tensor.dtype for tensor in load_file(output).values()} == {torch.float16}
    assert net.cgm is not None
    assert card.gate is None
    assert any("thresholds are dropped" in step for step in said)


def test_fine_tuning_trains_the_pruned_net_as_the_whole_one_was(data: Path, tmp_path: Path) -> None:
    source, output = saved(tmp_path), tmp_path / "small.safetensors"
    report = prune(output, by_ratio(source, data, epochs=2))
    assert names(tmp_path) == ["small.json", "small.safetensors", "source"]
    assert [row.name for row in report.rows] == ["before", "pruned", "fine-tuned"]
    _, pruned, tuned = report.rows
    assert (tuned.parameters, tuned.gflops) == (pruned.parameters, pruned.gflops)
    opened = Checkpoint.open(output)
    net, card = opened.net, opened.card
    assert card.structure == structure_of(net)
    assert card.metrics == validate(net, open_dataset(data), spec=card.input)
    assert tuned.miou == card.metrics["miou"]
    assert {name: card.training[name] for name in TRAINING} == {**TRAINING, "epochs": 2}
    assert card.training["initial"]["pruned"][0]["ratio"] == 0.5


def test_fine_tuning_that_was_stopped_goes_on_bit_for_bit(data: Path, tmp_path: Path) -> None:
    source, output = saved(tmp_path), tmp_path / "parts.safetensors"
    options = by_ratio(source, data, epochs=3)
    prune(tmp_path / "whole.safetensors", options)

    class Stopped(Exception):
        pass

    def stop(step: str) -> None:
        if step.startswith("epoch 2"):
            raise Stopped

    with pytest.raises(Stopped):
        prune(output, options, report=stop)
    assert not output.exists()
    with pytest.raises(CheckpointError, match=r"parts\.finetune belongs to another pruning"):
        prune(output, replace(options, ratio=0.25))
    with pytest.raises(CheckpointError, match="belongs to another run"):
        prune(output, replace(options, finetune_epochs=4))
    said: list[str] = []
    prune(output, options, report=said.append)
    assert said[0].startswith("resuming in ")
    assert sum(step.startswith("epoch") for step in said) == 1
    expected, found = (load_file(tmp_path / f"{n}.safetensors") for n in ("whole", "parts"))
    assert all(torch.equal(expected[name], found[name]) for name in expected)
    assert not (tmp_path / "parts.finetune").exists()


def test_depth_is_measured_on_data(data: Path, tmp_path: Path) -> None:
    source, output = saved(tmp_path, "unetpp"), tmp_path / "d2.safetensors"
    report = prune(output, PruneOptions("unetpp", str(source), depth=2, data=data))
    before, pruned = report.rows
    opened = Checkpoint.open(output)
    net, card = opened.net, opened.card
    assert card.arguments["depth"] == 2
    assert card.metrics == validate(net, open_dataset(data), spec=card.input)
    assert pruned.miou == card.metrics["miou"]
    assert pruned.parameters < before.parameters
    assert pruned.gflops < before.gflops


def test_depth_without_data_has_no_metrics_and_the_table_says_what_the_json_says(
    tmp_path: Path,
) -> None:
    source, output = saved(tmp_path, "unetpp", cgm=True), tmp_path / "d1.safetensors"
    said: list[str] = []
    report = prune(output, PruneOptions("unetpp", str(source), depth=1), report=said.append)
    assert [row.miou for row in report.rows] == [None, None]
    assert read_card(output).metrics == {}
    assert "the gate is lost" in said[0]
    table, told = report.table(), json.loads(json.dumps(encode(report)))
    for row in told["rows"]:
        assert f"{row['parameters']:,}" in table
        assert f"{row['gflops']:.3f}" in table
        assert f"{row['latency_ms']:.2f}" in table
    assert "100%" in table
    assert told["environment"]["onnxruntime"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "got neither --depth nor --ratio"),
        ({"depth": 1, "ratio": 0.5}, "got --depth and --ratio"),
        ({"depth": 1, "finetune_epochs": 1}, "--finetune-epochs is for --ratio only"),
        ({"ratio": 0.5}, "--ratio needs --data DIR: the loss .* tells which"),
    ],
)
def test_options_that_exclude_each_other_are_refused(options: Any, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        PruneOptions("unetpp", **options)


def test_what_exists_is_replaced_by_force_alone(data: Path, tmp_path: Path) -> None:
    options = by_ratio(saved(tmp_path), data, epochs=0)
    for existing in ("small.json", "small.safetensors"):
        (tmp_path / existing).write_text("kept")
        with pytest.raises(OutputExistsError, match=r"small\.\w+ exists already"):
            prune(tmp_path / "small.safetensors", options)
        assert (tmp_path / existing).read_text() == "kept"
    prune(tmp_path / "small.safetensors", options, force=True)
    Checkpoint.open(tmp_path / "small.safetensors")
    assert names(tmp_path) == ["small.json", "small.safetensors", "source"]


def test_a_failure_leaves_nothing(data: Path, tmp_path: Path) -> None:
    def fail(step: str) -> None:
        if step == "measuring":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        prune(
            tmp_path / "small.safetensors",
            by_ratio(saved(tmp_path), data, epochs=0),
            report=fail,
        )
    assert names(tmp_path) == ["source"]


def test_bad_input_is_refused(data: Path, tmp_path: Path) -> None:
    source, output = saved(tmp_path), tmp_path / "small.safetensors"
    good = by_ratio(source, data, epochs=0)
    with pytest.raises(UsageError, match=r"small\.pt; .* as NAME\.safetensors"):
        prune(tmp_path / "small.pt", good)
    with pytest.raises(UsageError, match=r"ratio is 1\.5"):
        prune(output, replace(good, ratio=1.5))
    with pytest.raises(CheckpointError, match="is a checkpoint of unet; unetpp was asked for"):
        prune(output, replace(good, model="unetpp"))
    with pytest.raises(UsageError, match="unet has no depth to prune"):
        prune(output, PruneOptions("unet", str(source), depth=2))
    with pytest.raises(DatasetError, match="does not exist"):
        prune(output, replace(good, data=tmp_path / "nowhere"))
    classes = {"classes": ["one", "other"]}
    (tmp_path / "two").mkdir()
    (tmp_path / "two" / "dataset.json").write_text(json.dumps(classes))
    with pytest.raises(DatasetError, match="has 2 classes, the weights have 3"):
        prune(output, replace(good, data=tmp_path / "two"))
    assert names(tmp_path) == ["source", "two"]


def test_a_foreign_record_of_the_training_is_refused(data: Path, tmp_path: Path) -> None:
    source = saved(tmp_path)
    card = json.loads(source.with_suffix(".json").read_text())
    card["training"] = {"batch_size": "many"}
    source.with_suffix(".json").write_text(json.dumps(card))
    with pytest.raises(CheckpointError, match=r"does not fit the trainer: .*batch_size"):
        prune(tmp_path / "small.safetensors", by_ratio(source, data, epochs=1))
