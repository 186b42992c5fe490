"""`edgeunet prune`: smaller checkpoints, their measurements, and refused input."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from edgeunet.bundle.schema import encode
from edgeunet.data.datasets import open_dataset
from edgeunet.errors import CheckpointError, DatasetError, OutputExistsError, UsageError
from edgeunet.models.checkpoints import Checkpoint, read_card
from edgeunet.models.reference import validate
from edgeunet.models.structure import structure_of
from edgeunet.models.summary import count
from edgeunet.pruning.prune import PruneOptions, prune
from support.pruning import by_ratio, names, saved

DATA = Path("dataset")


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
        ({}, "got none of --depth, --ratio and --to-latency"),
        ({"depth": 1, "ratio": 0.5}, "got --depth and --ratio"),
        ({"depth": 1, "to_latency": 0.5, "data": DATA}, "got --depth and --to-latency"),
        ({"ratio": 0.5, "to_latency": 0.5, "data": DATA}, "got --ratio and --to-latency"),
        ({"depth": 1, "finetune_epochs": 1}, "--finetune-epochs is for --ratio and --to-latency"),
        ({"depth": 1, "teacher": "unetpp:cells"}, "--teacher is for --ratio and --to-latency only"),
        ({"ratio": 0.5}, "--ratio needs --data DIR: the loss .* tells which"),
        ({"to_latency": 0.5}, "--to-latency needs --data DIR: the loss .* tells which"),
        ({"to_latency": 0.0, "data": DATA}, "to_latency is 0.*more than 0"),
        ({"to_latency": 1.0, "data": DATA}, "to_latency is 1.*less than 1"),
        ({"to_latency": float("nan"), "data": DATA}, "to_latency is nan"),
        (
            {"ratio": 0.5, "data": DATA, "teacher": "unetpp:cells", "finetune_epochs": 0},
            "got --teacher with --finetune-epochs 0",
        ),
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
    taught = replace(good, finetune_epochs=1, teacher="unet3p:magnetic_tile")
    with pytest.raises(CheckpointError, match=r"teacher unet3p:magnetic_tile has other classes"):
        prune(output, taught)
    with pytest.raises(CheckpointError, match="teacher unet3p:magnetic_tile has other classes"):
        prune(output, replace(taught, ratio=None, to_latency=0.5))
    classes = {"classes": ["one", "other"]}
    (tmp_path / "two").mkdir()
    (tmp_path / "two" / "dataset.json").write_text(json.dumps(classes))
    with pytest.raises(DatasetError, match="has 2 classes, the weights have 3"):
        prune(output, replace(good, data=tmp_path / "two"))
    assert names(tmp_path) == ["source", "two"]
