"""Every command that takes weights takes the same files, and refuses others with the same words."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import Result
from safetensors.torch import load_file, save_file
from torch import Tensor

from edgeunet.bundle.manifest import InputSpec
from edgeunet.data.cells import CLASSES, PALETTE, write_dataset
from edgeunet.models import Card, create_model, save_checkpoint
from support.commands import ROOT, call, names
from support.originals import MilesialUNet, shake

SIZE = ("--size", "32x32")
COMMANDS: dict[str, tuple[str, ...]] = {
    "export": ("--max-batch", "1"),
    "train": ("--epochs", "1", "--batch", "2", "--crop", "32x32", "--no-amp"),
    "prune": ("--ratio", "0.5", "--finetune-epochs", "0"),
    "gate": (),
}
NO_GATE = "this UNet has no gate: it was built without cgm. Train it with --cgm."


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("weights") / "data"
    write_dataset(path, train=2, val=1, height=32, width=32, seed=4)
    return path


@pytest.fixture(autouse=True)
def _timed_shortly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "edgeunet.pruning.prune.median_latencies", lambda calls: dict.fromkeys(calls, 1.0)
    )


def run(command: str, data: Path, folder: Path, weights: object, *more: str) -> Result:
    output = folder / ("out.safetensors" if command in ("prune", "gate") else "out")
    return call(
        *(command, "--model", "unet", "--weights", weights, "--data", data, "-o", output),
        *(*COMMANDS[command], *more),
    )


def ours(*, cgm: bool = False) -> dict[str, Tensor]:
    torch.manual_seed(0)
    return create_model("unet", num_classes=3, width=4, cgm=cgm).state_dict()


def with_card(path: Path, model: str = "unet", *, half: bool = False) -> Path:
    arguments = {"num_classes": 3, "width": 4, "cgm": model == "unet"}
    card = Card(model, arguments, CLASSES, PALETTE, InputSpec(64, 64), "cells")
    save_checkpoint(path, create_model(model, **arguments), card, half=half)
    return path


def in_torch(path: Path, content: Any) -> Path:
    torch.save(content, path)
    return path


def in_safetensors(path: Path, tensors: dict[str, Tensor]) -> Path:
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, path)
    return path


def milesial() -> dict[str, Tensor]:
    return shake(MilesialUNet(False, 3, width=4)).state_dict()


# What is taken: how the file is made, and whether its net has a gate.
TAKEN: dict[str, tuple[Callable[[Path], object], bool]] = {
    "a tag": (lambda folder: "cells", False),
    "ours": (lambda folder: with_card(folder / "net.safetensors"), True),
    "ours in FP16": (lambda folder: with_card(folder / "net.safetensors", half=True), True),
    "no card": (lambda folder: in_safetensors(folder / "net.safetensors", ours()), False),
    "no card, gated": (lambda folder: in_torch(folder / "net.pt", ours(cgm=True)), True),
    "foreign": (lambda folder: in_torch(folder / "net.pth", milesial()), False),
    "foreign, wrapped": (
        lambda folder: in_torch(
            folder / "net.pth",
            {"epoch": 3, "model": {f"module.{n}": t for n, t in milesial().items()}},
        ),
        False,
    ),
    "foreign in safetensors": (
        lambda folder: in_safetensors(folder / "net.safetensors", milesial()),
        False,
    ),
}


@pytest.mark.parametrize("kind", TAKEN)
@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_takes_every_kind_of_weights(
    command: str, kind: str, data: Path, tmp_path: Path
) -> None:
    make, gated = TAKEN[kind]
    (tmp_path / "in").mkdir()
    result = run(command, data, tmp_path, make(tmp_path / "in"), *SIZE)
    if command == "gate" and not gated:
        assert NO_GATE in result.stderr
        return
    assert result.exit_code == 0, result.output
    card = {"export": "out/checkpoint.json", "train": "out/best.json"}.get(command, "out.json")
    written = json.loads((tmp_path / card).read_text())
    assert (written["input"]["height"], written["input"]["width"]) == (32, 32)
    assert len(written["classes"]) == 3
    if kind.startswith("foreign"):  # images are divided by 255 and not normalised further
        assert written["input"]["mean"] == [0, 0, 0]


def test_training_starts_with_the_weights_of_the_foreign_file(data: Path, tmp_path: Path) -> None:
    weights = in_torch(tmp_path / "net.pth", milesial())
    assert run("train", data, tmp_path, weights, *SIZE, "--lr", "1e-9").exit_code == 0
    state = torch.load(tmp_path / "out" / "last.pt", weights_only=True)["net"]
    kernel = milesial()["inc.double_conv.0.weight"]
    torch.testing.assert_close(state["encoder.0.0.0.weight"], kernel, rtol=0, atol=1e-5)


class Evil:
    """Makes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return Path.touch, (self.path,)


def truncated(path: Path) -> Path:
    path.write_bytes(in_torch(path, ours()).read_bytes()[:1000])
    return path


def damaged() -> dict[str, Tensor]:
    tensors = ours()
    return {**tensors, "head.weight": tensors["head.weight"][:, 1:]}


def without_its_file(folder: Path) -> Path:
    shutil.copy(with_card(folder / "net.safetensors"), folder / "other.safetensors")
    (folder / "net.safetensors").unlink()
    return folder / "net.safetensors"


def bad_card(path: Path) -> Path:
    with_card(path).with_suffix(".json").write_text("{}")
    return path


# What is refused, with the words.
REFUSED: dict[str, tuple[Callable[[Path], object], str]] = {
    "no such tag": (lambda folder: "moon", "unknown weights of unet 'moon'. Known: "),
    "no file": (without_its_file, "unknown weights of unet"),
    "code": (
        lambda folder: in_torch(folder / "net.pth", {"weight": Evil(folder / "ran")}),
        r"holds code \(.*\), not weights alone.*net.state_dict\(\)",
    ),
    "truncated": (lambda folder: truncated(folder / "net.pth"), "cannot be read as weights"),
    "a list": (
        lambda folder: in_torch(folder / "net.pth", [torch.zeros(1)]),
        "holds a list; expected a state dict",
    ),
    "another variant": (
        lambda folder: with_card(folder / "net.safetensors", "unetpp"),
        "is a checkpoint of unetpp; unet was asked for",
    ),
    "a card of nothing": (lambda folder: bad_card(folder / "net.safetensors"), "is not a card: "),
    "no known format": (
        lambda folder: in_torch(folder / "net.pth", {"conv1.weight": torch.zeros(8, 3, 7, 7)}),
        "is of no known format: .*Closest is a unet of edgeunet",
    ),
    "damaged": (
        lambda folder: in_torch(folder / "net.pth", damaged()),
        r"does not fit UNet with 3 classes: it differs in head.weight \(3, 3, 1, 1\) instead of",
    ),
    "a damaged foreign file": (
        lambda folder: in_torch(
            folder / "net.pth", {**milesial(), "attention.weight": torch.zeros(3)}
        ),
        "Closest is a U-Net of milesial's, i.e. unet, but it has unknown attention.weight",
    ),
    "channels": (
        lambda folder: in_torch(
            folder / "net.pth", shake(MilesialUNet(False, 3, width=4, channels=4)).state_dict()
        ),
        "takes 4 channels. Name them in its order, such as --channels",
    ),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_all_commands_refuse_bad_weights_with_the_same_words(
    kind: str, data: Path, tmp_path: Path
) -> None:
    make, words = REFUSED[kind]
    (tmp_path / "in").mkdir()
    weights = make(tmp_path / "in")
    results = [run(command, data, tmp_path, weights, *SIZE) for command in COMMANDS]
    (message,) = {result.stderr for result in results}
    assert re.search(words, message, re.DOTALL)
    assert {result.exit_code for result in results} <= {1, 2}
    assert names(tmp_path) == ["in"], "nothing is written, nothing ran"
    assert not (tmp_path / "in" / "ran").exists()


@pytest.mark.parametrize("command", ["export", "prune", "train"])
def test_every_command_takes_averaged_weights_or_the_raw_ones(
    command: str, data: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    net = milesial()
    averaged = {n: t * 0.5 if t.is_floating_point() else t for n, t in net.items()}
    weights = in_torch(tmp_path / "net.pth", {"state_dict": net, "state_dict_ema": averaged})
    still = ("--lr", "1e-9") if command == "train" else ()
    written = {}
    for name, arguments in {"averaged": (), "raw": ("--raw",)}.items():
        (tmp_path / name).mkdir()
        result = run(command, data, tmp_path / name, weights, *SIZE, *still, *arguments)
        assert result.exit_code == 0, result.output
        files = {"export": "out/checkpoint.safetensors", "train": "out/best.safetensors"}
        path = tmp_path / name / files.get(command, "out.safetensors")
        written[name] = load_file(path)["head.bias"].float()
    torch.testing.assert_close(written["averaged"], written["raw"] * 0.5, rtol=0.01, atol=1e-3)
    assert (
        caplog.messages.count(
            f"{weights}: takes the averaged weights, state_dict_ema. Pass --raw for the others."
        )
        == 1
    )
    plain = in_torch(tmp_path / "plain.pth", net)
    result = run(command, data, tmp_path, plain, *SIZE, "--raw")
    assert "holds no averaged weights that fit. Leave out --raw" in result.stderr


@pytest.mark.parametrize("command", ["export", "prune", "gate"])
def test_the_size_is_asked_for(command: str, data: Path, tmp_path: Path) -> None:
    """`train` takes it from the data."""
    weights = in_torch(tmp_path / "net.pth", milesial())
    result = run(command, data, tmp_path, weights)
    assert "do not tell the size of the input. Pass --size HxW." in result.stderr
    result = run(command, data, tmp_path, weights, "--size", "33x32")
    assert "size is 33x32; UNet needs multiples of 16. Pass --size 48x32." in result.stderr


@pytest.mark.parametrize("command", ["export", "prune", "gate"])
def test_the_preparation_is_for_weights_without_a_card(
    command: str, data: Path, tmp_path: Path
) -> None:
    message = run(command, data, tmp_path, "cells", "--mean", "0.5").stderr
    assert "has a card, which says how frames are prepared" in message
    weights = in_torch(tmp_path / "net.pt", ours(cgm=True))
    arguments = ("--channels", "bgr", "--mean", "0.5", "--std", "0.25")
    result = run(command, data, tmp_path, weights, *SIZE, *arguments)
    assert result.exit_code == 0, result.output
    card = "out/checkpoint.json" if command == "export" else "out.json"
    written = json.loads((tmp_path / card).read_text())["input"]
    assert (written["channels"], written["mean"]) == (["blue", "green", "red"], [0.5] * 3)
    assert written["std"] == [0.25] * 3


def test_files_of_weights_are_opened_in_one_place() -> None:
    opening = re.compile(r"torch\.load\(|\bload_file\(|safe_open\(|pickle\.loads?\(")
    found = {
        path.relative_to(ROOT).as_posix()
        for part in ("edgeunet", "export", "runtime")
        for path in (ROOT / part).rglob("*.py")
        if opening.search(path.read_text(encoding="utf-8"))
    }
    assert found == {"edgeunet/models/weight_files.py"}
