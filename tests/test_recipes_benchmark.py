"""`benchmarks/recipes.py`: folds by film, a teacher of the same fold, and the table."""

from __future__ import annotations

import importlib
import json
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from click.testing import CliRunner

from edgeunet.data.cells import write_dataset
from edgeunet.data.datasets import open_dataset
from edgeunet.data.folds import split_folds

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
SMALL: dict[str, Any] = {"crop": (32, 32), "batch_size": 4, "amp": False}


@pytest.fixture
def recipes(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(BENCHMARKS)
    return importlib.import_module("recipes")


def split_into_films(folder: Path) -> Path:
    """A data set of three films a, b and c of four images each."""
    write_dataset(folder, train=12, val=1, height=32, width=32, seed=4)
    for path in sorted((folder / "train").glob("*/*.png")):
        path.rename(path.with_name(f"{'abc'[int(path.stem) // 4]}_{path.name}"))
    return folder


def test_each_film_is_held_out_and_nothing_is_trained_twice(
    recipes: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data, width = split_into_films(tmp_path / "data"), {"width": 4}
    monkeypatch.setattr(
        recipes,
        "RECIPES",
        {
            "large": recipes.Recipe("mobile_unet", SMALL, width),
            "small, taught": recipes.Recipe("mobile_unet", SMALL, width, teacher="large"),
        },
    )
    results, encoder = tmp_path / "results.jsonl", tmp_path / "encoder.pth"
    encoder.touch()
    told = ["--data", data, "--encoder-weights", encoder, "-o", tmp_path / "runs"]
    arguments = [*map(str, told), "--epochs", "1", "--results", str(results)]
    run = CliRunner().invoke
    first = run(recipes.main, [*arguments, "--fold", "2"], catch_exceptions=False)
    lines = [json.loads(line) for line in results.read_text().splitlines()]
    assert [(line["recipe"], line["films"], line["images"]) for line in lines] == [
        ("large", ["b"], 4),
        ("small, taught", ["b"], 4),
    ]
    assert "| recipe | b, 1 epochs | all | minutes |" in first.stdout
    card = json.loads((tmp_path / "runs" / "small-taught-2" / "best.json").read_text())
    assert card["training"]["teacher"]["name"] == "large-2"
    assert "cores" in lines[0]["machine"]
    run(recipes.main, arguments, catch_exceptions=False)
    assert len(results.read_text().splitlines()) == 6
    monkeypatch.setattr(recipes, "judge", lambda *_, **__: pytest.fail("was trained already"))
    assert run(recipes.main, arguments).exit_code == 0
    other = run(recipes.main, [*arguments, "--epochs", "2"])
    assert "holds nets of other epochs for fold 1. Pass theirs." in other.output
    results.write_text("".join(json.dumps(line) + "\n" for line in lines))
    early = run(recipes.main, [*arguments, "--epochs", "2"])
    assert "holds nets of other epochs for fold 2" in early.output, "before fold 1 is trained"


def test_a_net_begins_with_that_of_another_recipe_and_the_same_film(
    recipes: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = split_into_films(tmp_path / "data")
    first = recipes.Recipe("mobile_unet", SMALL, {"width": 4})
    second = recipes.Recipe("mobile_unet", {**SMALL, "seed": 1}, {"width": 4}, begins="first")
    monkeypatch.setattr(recipes, "RECIPES", {"first": first, "second": second})
    (fold, *_) = split_folds(open_dataset(data), 3, recipes.FILMS)
    for name in recipes.RECIPES:
        recipes.judge(name, fold, tmp_path, epochs=1, encoder_weights=tmp_path / "none")
    card = json.loads((tmp_path / "second-1" / "best.json").read_text())
    assert card["training"]["initial"]["seed"] == 0, "how the first was trained"


def test_table_pools_the_masks_of_all_films(recipes: ModuleType) -> None:
    confusions = ([[8, 2], [0, 10]], [[0, 0], [4, 16]])
    lines = [
        {
            "recipe": "one",
            "films": [film],
            "epochs": 3,
            "miou": 50.0,
            "minutes": 1.5,
            "confusion": confusion,
        }
        for film, confusion in zip("ab", confusions, strict=True)
    ]
    *_, row = recipes.table(lines).splitlines()
    pooled = 100 * (8 / (8 + 2 + 4) + 26 / (26 + 2 + 4)) / 2
    assert row == f"| one | 50.0 | 50.0 | {pooled:.1f} | 3 |"
    *_, row = recipes.table([lines[0], {**lines[1], "recipe": "other"}]).splitlines()
    assert row == "| other |  | 50.0 |  | 2 |", "no sum of some films"
