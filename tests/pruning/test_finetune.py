"""Fine-tuning of a pruned net."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from edgeunet.data.cells import write_dataset
from edgeunet.data.datasets import open_dataset
from edgeunet.errors import CheckpointError
from edgeunet.models.checkpoints import Checkpoint
from edgeunet.models.reference import validate
from edgeunet.models.structure import structure_of
from edgeunet.pruning.finetune import _config
from edgeunet.pruning.prune import prune
from support.pruning import TRAINING, by_ratio, names, saved


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
    other = tmp_path / "other"
    write_dataset(other, train=4, val=2, height=64, width=64, seed=4)
    for changes, name in (
        ({"ratio": 0.25}, "ratio"),
        ({"finetune_epochs": 4}, "finetune_epochs"),
        ({"size": (32, 32)}, "size"),
        ({"data": other}, "images"),
    ):
        words = rf"parts\.finetune belongs to another pruning, .* with other {name}\. Remove it"
        with pytest.raises(CheckpointError, match=words):
            prune(output, replace(options, **changes))
    said: list[str] = []
    prune(output, options, report=said.append)
    assert said[0].startswith("resuming in ")
    assert sum(step.startswith("epoch") for step in said) == 1
    expected, found = (load_file(tmp_path / f"{n}.safetensors") for n in ("whole", "parts"))
    assert all(torch.equal(expected[name], found[name]) for name in expected)
    assert not (tmp_path / "parts.finetune").exists()


def test_nets_that_know_val_are_tuned_on_train_and_get_no_miou(
    data: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    source = saved(tmp_path)
    told = json.loads(source.with_suffix(".json").read_text())
    told |= {"data": open_dataset(data).name, "metrics": {}}
    told["training"]["with_val"] = True
    source.with_suffix(".json").write_text(json.dumps(told))
    for epochs in (0, 1):
        output = tmp_path / f"small{epochs}.safetensors"
        report = prune(output, by_ratio(source, data, epochs=epochs))
        assert all(row.miou is not None for row in report.rows)
        assert "trained on val too: mIoU tells what pruning costs" in report.table()
        assert Checkpoint.open(output).card.metrics == {}
    assert Checkpoint.open(output).card.training["with_val"] is False
    assert "was trained on val of cells too" in caplog.text


def test_a_named_teacher_teaches_what_a_ratio_left(data: Path, tmp_path: Path) -> None:
    source, output = saved(tmp_path), tmp_path / "small.safetensors"
    options = by_ratio(source, data, epochs=1)
    prune(output, options)
    assert "teacher" not in Checkpoint.open(output).card.training
    report = prune(tmp_path / "taught.safetensors", replace(options, teacher="unet:cells"))
    assert report.teacher == "unet:cells"
    training = Checkpoint.open(tmp_path / "taught.safetensors").card.training
    assert training["teacher"]["name"] == "unet:cells"
    assert training["initial"]["pruned"][0]["teacher"] == training["teacher"]
    alone, taught = (load_file(tmp_path / f"{name}.safetensors") for name in ("small", "taught"))
    assert any(not torch.equal(alone[name], taught[name]) for name in alone)


def test_a_foreign_record_of_the_training_is_refused(data: Path, tmp_path: Path) -> None:
    source = saved(tmp_path)
    card = json.loads(source.with_suffix(".json").read_text())
    card["training"] = {"batch_size": "many"}
    source.with_suffix(".json").write_text(json.dumps(card))
    with pytest.raises(CheckpointError, match=r"does not fit the trainer: .*batch_size"):
        prune(tmp_path / "small.safetensors", by_ratio(source, data, epochs=1))


def test_fine_tuning_takes_neither_patience_nor_a_stage_of_the_gate(tmp_path: Path) -> None:
    card = Checkpoint.open(saved(tmp_path)).card
    told = {"epochs": 100, "patience": 50, "gate_epochs": 9}
    config = _config(replace(card, training=told), 4)
    assert (config.epochs, config.patience, config.gate_epochs) == (4, None, 0)
    taught = replace(card, training={"temperature": 2.0, "unlabelled_share": 0.25})
    assert _config(taught, 4) == _config(replace(card, training={}), 4)
    assert _config(taught, 4, taught=True).temperature == 2.0
