"""`tune` from a data set to a bundle, and what it refuses."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from edgeunet.data.cells import write_dataset
from edgeunet.errors import (
    DatasetError,
    MissingDependencyError,
    UnknownNameError,
    UsageError,
)
from edgeunet.runtime.segmenter import Segmenter
from edgeunet.tuning import sketch, space
from edgeunet.tuning.lab import NetLab
from edgeunet.tuning.tune import TuneOptions, tune
from support.commands import visible
from support.training import SHORT


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("tune") / "data"
    write_dataset(path, train=8, val=3, height=64, width=64, seed=3)
    return path


def options(data: Path, **known: object) -> TuneOptions:
    given = {"target": "fps>=1", "budget": "1h", "max_drop": 100.0, **known}
    return TuneOptions("mobile_unet", str(data), **given)  # type: ignore[arg-type]


def test_from_a_data_set_to_a_bundle_and_once_more(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sketch, "SECONDS", 0.02)
    monkeypatch.setattr(space, "SIDES", (1.0,))
    monkeypatch.setattr(space, "WIDTHS", (0.25,))
    told: list[str] = []
    output, config = tmp_path / "search", replace(SHORT, epochs=1)
    outcome = tune(output, options(data), config=config, report=told.append)
    chosen = outcome.chosen
    assert chosen is not None and chosen.key in ("64x64-w8-full", "64x64-w8-light")
    assert chosen.way.endswith("FP32"), "the closest precision that holds the target"
    assert visible(output) == ["bundle", "runs", "tried", "tune.html", "tune.json"]
    assert chosen.bundle == str(output / "bundle")
    with Segmenter.open(output / "bundle", "onnxruntime") as segmenter:
        segmenter.self_check()
        assert segmenter.manifest.arguments["width"] == 8
    (epochs,) = (each.epochs for each in outcome.tried if each.key == chosen.key)
    worse = any("1 more epoch, which made it worse" in note for note in outcome.notes)
    assert epochs == chosen.epochs == (1 if worse else 2)
    assert outcome.equal_epochs == 1 and outcome.size == 2
    kept = json.loads((output / "tune.json").read_text())
    assert kept["outcome"]["chosen"]["key"] == chosen.key
    assert outcome.why in (output / "tune.html").read_text()
    assert len(told) == 2 + 1 + 2 + 1 + 2, told  # times, pace, race, winner, export and again

    monkeypatch.setattr(NetLab, "times", lambda *given: pytest.fail("it is known"))
    monkeypatch.setattr(NetLab, "train", lambda *given: pytest.fail("it is known"))
    monkeypatch.setattr(NetLab, "export", lambda *given: pytest.fail("it is known"))
    assert tune(output, options(data), config=config) == outcome
    none = tune(output, options(data, target="p50<=0.001ms"), config=config)
    assert none.chosen is None and "The nearest is 64x64, width 8" in none.why
    assert none.notes[-1].endswith("bundle is what an earlier search in this folder chose.")
    with pytest.raises(UsageError, match=r"belongs to another search: seed is 0 there, and 7 here"):
        tune(output, options(data), config=replace(config, seed=7))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"target": "fast"}, "expected a speed"),
        ({"budget": "soon"}, "expected a time"),
        ({"max_drop": -1.0}, "max_drop is -1"),
    ],
)
def test_wrong_options_leave_nothing(
    data: Path, tmp_path: Path, changes: dict[str, object], words: str
) -> None:
    with pytest.raises(UsageError, match=words):
        tune(tmp_path / "search", options(data, **changes))
    assert not (tmp_path / "search").exists()


def test_options_that_training_cannot_take_are_refused_before_anything_is_measured(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(UsageError, match="got --device gpu0, which this PyTorch cannot use"):
        tune(tmp_path / "search", options(data, device="gpu0"))
    with pytest.raises(UsageError, match="got --layout coco with --data cells"):
        options(Path("cells"), layout="coco")
    with pytest.raises(UsageError, match="seed is -1"):
        replace(SHORT, seed=-1)
    monkeypatch.setattr("edgeunet.training.recipe.is_installed", lambda name: False)
    with pytest.raises(MissingDependencyError, match="torchmetrics"):
        tune(tmp_path / "search", options(data), config=replace(SHORT, loss="hybrid"))
    assert not (tmp_path / "search").exists()


def test_a_folder_whose_images_have_changed_is_another_search(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = tmp_path / "data"
    shutil.copytree(data, copy)
    searched = options(copy, target="p50<=0.001ms")
    monkeypatch.setattr(NetLab, "times", lambda *given: {"onnxruntime FP32": 9.0})
    tune(tmp_path / "search", searched, config=replace(SHORT, epochs=1))
    image = next((copy / "train" / "images").iterdir())
    image.write_bytes(image.read_bytes() + b" ")
    with pytest.raises(UsageError, match="belongs to another search: contents is"):
        tune(tmp_path / "search", searched, config=replace(SHORT, epochs=1))


def test_what_is_no_data_set_and_no_variant_leaves_nothing(data: Path, tmp_path: Path) -> None:
    with pytest.raises(DatasetError):
        tune(tmp_path / "search", options(tmp_path))
    with pytest.raises(UnknownNameError, match="Did you mean 'unet'"):
        tune(tmp_path / "search", replace(options(data), model="unett"))
    assert not (tmp_path / "search").exists()


def test_folder_of_something_else_is_refused(data: Path, tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "last.pt").write_bytes(b"")
    with pytest.raises(UsageError, match=r"holds last\.pt, but no tune\.json"):
        tune(tmp_path / "run", options(data))
    with pytest.raises(UsageError, match="is a file; expected a directory"):
        tune(tmp_path / "run" / "last.pt", options(data))
    assert visible(tmp_path / "run") == ["last.pt"]
