"""Pruning to a share of the latency: rounds, what they remove, and how they resume."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from edgeunet.errors import CheckpointError, UsageError
from edgeunet.files import sha256
from edgeunet.models import SegmentationNet
from edgeunet.models.checkpoints import Checkpoint, read_card, save_checkpoint
from edgeunet.models.structure import structure_of
from edgeunet.pruning.prune import prune
from edgeunet.runtime.backends.candidates import Candidate
from support.pruning import arithmetic, count_costs, names, saved_shallow, to_latency


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nets take as long as their arithmetic."""
    count_costs(monkeypatch, arithmetic)


@pytest.mark.usefixtures("counted")
@pytest.mark.parametrize("share", [0.5, 0.8])
def test_target_is_reached_in_rounds_that_the_card_keeps(
    share: float, data: Path, tmp_path: Path
) -> None:
    source, output = saved_shallow(tmp_path), tmp_path / "small.safetensors"
    report = prune(output, to_latency(source, data, epochs=0, share=share))
    found = report.to_latency
    assert found is not None
    assert [row.name for row in report.rows] == ["before", "pruned"]
    # The narrow layers of so small a net make large steps.
    assert 0.9 * share <= found.reached <= 1.02 * share
    assert found.reached == pytest.approx(report.rows[1].gflops / report.rows[0].gflops, abs=1e-3)
    assert len(found.rounds) == {0.5: 3, 0.8: 1}[share]
    card = read_card(output)
    record = card.training["pruned"][-1]
    assert record["latency"] == share
    assert (record["engine"], record["precision"]) == ("onnxruntime", "fp32")
    assert [each["share"] for each in record["rounds"]] == [each.share for each in found.rounds]
    assert record["rounds"][-1]["share"] == pytest.approx(found.reached, abs=1e-3)
    check_structure(source, output, found.rounds)
    assert names(tmp_path) == ["small.json", "small.safetensors", "source"]


def check_structure(source: Path, output: Path, rounds: Any) -> None:
    """The layers lack what the rounds say, and what is left is a multiple of 8."""
    before, after = (structure_of(Checkpoint.open(path).net) for path in (source, output))
    removed: dict[str, int] = {}
    for each in rounds:
        for name, gone in each.removed.items():
            removed[name] = removed.get(name, 0) + gone
    assert removed
    for name, gone in removed.items():
        left = after[name][1]
        assert left == before[name][1] - gone
        assert left % 8 == 0


def test_channels_go_where_they_cost_most(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The deeper layers hold nearly all of the time: the others stay."""

    def cost(net: SegmentationNet) -> float:
        widths = structure_of(net)
        return 1 + 1000 * widths["nodes.x10.0.0"][1] + 1000 * widths["nodes.x10.1.0"][1]

    count_costs(monkeypatch, cost)
    source, output = saved_shallow(tmp_path), tmp_path / "small.safetensors"
    report = prune(output, to_latency(source, data, epochs=0, share=0.75))
    assert report.to_latency is not None
    (only,) = report.to_latency.rounds
    assert set(only.removed) <= {"nodes.x10.0.0", "nodes.x10.1.0"}
    assert sum(only.removed.values()) == 32


@pytest.mark.usefixtures("counted")
def test_target_that_cannot_be_reached_names_the_nearest_and_trains_nothing(
    data: Path, tmp_path: Path
) -> None:
    output, said = tmp_path / "small.safetensors", list[str]()
    options = to_latency(saved_shallow(tmp_path), data, epochs=1, share=0.01)
    with pytest.raises(
        UsageError, match=r"0\.01 cannot be reached: with the fewest .* takes \d+% .*Pass 0\.\d+ or"
    ) as raised:
        prune(output, options, report=said.append)
    assert not any("fine-tuning" in step for step in said)
    assert names(tmp_path) == ["source"]
    nearest = float(str(raised.value).partition("Pass ")[2].split()[0])
    report = prune(output, replace(options, to_latency=nearest, finetune_epochs=0))
    assert report.to_latency is not None
    assert report.to_latency.reached <= 1.02 * nearest


def test_net_whose_layers_save_no_time_is_refused(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only all groups together save something."""
    source = saved_shallow(tmp_path)
    whole = arithmetic(Checkpoint.open(source).net)
    count_costs(monkeypatch, lambda net: 1.0 if arithmetic(net) > 0.12 * whole else 0.1)
    options = to_latency(source, data, epochs=0, share=0.9)
    with pytest.raises(UsageError, match="no layer of this net saves time on onnxruntime FP32"):
        prune(tmp_path / "small.safetensors", options)


@pytest.mark.usefixtures("counted")
def test_unpruned_net_teaches_the_fine_tuning_and_a_named_one_instead(
    data: Path, tmp_path: Path
) -> None:
    source, output = saved_shallow(tmp_path), tmp_path / "small.safetensors"
    options = to_latency(source, data, epochs=1, share=0.8)
    said: list[str] = []
    report = prune(output, options, report=said.append)
    assert [row.name for row in report.rows] == ["before", "pruned", "fine-tuned"]
    assert report.teacher == "the unpruned net"
    training = read_card(output).training
    assert training["teacher"] == {"name": "unpruned.safetensors", "sha256": sha256(source)}
    assert "teacher" not in training["initial"]["pruned"][-1]
    assert sum(step.startswith("fine-tuning") for step in said) == 1, "one round, trained once"

    other = tmp_path / "other.safetensors"
    opened = Checkpoint.open(source)
    save_checkpoint(other, opened.net, opened.card)
    report = prune(output, replace(options, teacher=str(other)), force=True)
    assert report.teacher == str(other)
    training = read_card(output).training
    assert training["teacher"]["name"] == "other.safetensors"
    assert training["initial"]["pruned"][-1]["teacher"] == training["teacher"]


class Stopped(Exception):
    pass


@pytest.mark.usefixtures("counted")
@pytest.mark.parametrize("at", ["round 2: choosing", "measuring"])
def test_pruning_that_was_stopped_goes_on_bit_for_bit(at: str, data: Path, tmp_path: Path) -> None:
    source, output = saved_shallow(tmp_path), tmp_path / "parts.safetensors"
    options = to_latency(source, data, epochs=1, share=0.6)
    prune(tmp_path / "whole.safetensors", options)

    def stop(step: str) -> None:
        if step.startswith(at):
            raise Stopped

    with pytest.raises(Stopped):
        prune(output, options, report=stop)
    assert not output.exists()
    for other in ({"to_latency": 0.7}, {"teacher": str(source)}):
        with pytest.raises(CheckpointError, match=r"parts\.finetune belongs to another pruning"):
            prune(output, replace(options, **other))
    said: list[str] = []
    prune(output, options, report=said.append)
    assert any(step.startswith("resuming in ") for step in said)
    assert not any(step.startswith("round 1") for step in said)
    expected, found = (load_file(tmp_path / f"{n}.safetensors") for n in ("whole", "parts"))
    assert all(torch.equal(expected[name], found[name]) for name in expected)
    assert not (tmp_path / "parts.finetune").exists()


def test_pruning_on_a_real_engine(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is exact here: only a net that is far faster must come out faster."""
    engine = Candidate("onnxruntime", "int8")
    monkeypatch.setattr("edgeunet.pruning.timing.engines_here", lambda: [engine])
    monkeypatch.setattr("edgeunet.pruning.timing._RACES", 1)
    monkeypatch.setattr("edgeunet.pruning.timing._PAIR_SECONDS", 0.3)
    source, output = saved_shallow(tmp_path), tmp_path / "small.safetensors"
    report = prune(output, to_latency(source, data, epochs=0, share=0.7))
    found = report.to_latency
    assert found is not None
    assert found.rounds[-1].share < 0.9
    assert report.rows[1].gflops < 0.9 * report.rows[0].gflops
    assert (report.engine, report.precision) == ("onnxruntime", "int8")
    assert "ONNX Runtime INT8" in report.table().splitlines()[0]
