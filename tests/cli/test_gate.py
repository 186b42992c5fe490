"""`edgeunet gate`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from edgeunet.data.cells import write_dataset
from edgeunet.data.datasets import Dataset, open_dataset
from edgeunet.models.checkpoints import read_card
from support.commands import call, fails
from support.gates import gated_checkpoint

# Nets and checkpoints


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    path = tmp_path_factory.mktemp("gate") / "data"
    write_dataset(path, train=1, val=12, height=48, width=64, seed=3)
    return open_dataset(path)


@pytest.fixture
def gated(tmp_path: Path) -> Path:
    return gated_checkpoint(tmp_path)


# Command line


def test_command_writes_the_checkpoint_and_prints_the_report(
    gated: Path, data: Dataset, tmp_path: Path
) -> None:
    output = tmp_path / "out.safetensors"
    base = ("gate", "--model", "unet", "--weights", gated, "--data", data.root, "-o", output)
    printed = json.loads(call(*base, "--max-lost", "25", "--json").stdout)
    card = read_card(output)
    assert printed["checkpoint"] == str(output)
    assert [entry["threshold"] for entry in printed["gate"]["classes"]] == list(card.gate or ())
    asked = {"max_lost": 0.25, "margin": 0, "open_on": None}
    assert {**asked, **printed["gate"]} == card.metrics["gate"]
    table = call(*base, "--margin", "0.3", "--open", "5", "--force").stdout
    for words in ("closed where not", "with 95%", "≥ ", "skips the decoder on", f"wrote {output}"):
        assert words in table
    written = read_card(output).metrics["gate"]
    assert (written["max_lost"], written["margin"], written["open_on"]) == (0.005, 0.3, 0.05)


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["--model", "mobile_unet", "--weights", "cells"], 1, "MobileUNet has no gate"),
        (["--model", "unetpp"], 1, "is a checkpoint of unet; unetpp was asked for"),
        (["--weights", "nosuch"], 2, "unknown weights of unet 'nosuch'"),
        (["--max-lost", "100"], 2, "a share from 0 to less than 1"),
        (["--open", "95"], 2, "with 95% confidence, but "),
        (["--open", "100"], 2, "expected more than 0 and less than 100"),
        (["-o", "out.pt"], 2, "NAME.safetensors"),
        (["--data", "nowhere"], 1, "nowhere/dataset.json does not exist"),
    ],
)
def test_command_refuses(
    gated: Path, data: Dataset, tmp_path: Path, arguments: list[str], code: int, words: str
) -> None:
    output = tmp_path / "out.safetensors"
    base = ("gate", "--model", "unet", "--weights", gated, "--data", data.root, "-o", output)
    assert words in fails(code, *base, *arguments)
    assert not output.exists()


def test_gate_looks_at_its_output_first(tmp_path: Path) -> None:
    output = tmp_path / "out.safetensors"
    output.write_bytes(b"kept")
    arguments = ("gate", "--model", "unet", "--weights", "nosuch", "--data", "nowhere")
    assert "out.safetensors exists already" in fails(2, *arguments, "-o", output)
