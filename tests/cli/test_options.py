"""Options that a command takes from the fields of a dataclass."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import click
import pytest
from click.testing import CliRunner

from edgeunet.cli.bundle_options import StreamOptions
from edgeunet.cli.common import Command
from edgeunet.cli.options import options_from
from edgeunet.errors import UsageError
from edgeunet.fields import check, describe
from edgeunet.runtime.backends.tiling import Tiling
from edgeunet.runtime.options import LoadOptions
from edgeunet.training.config import TrainConfig
from support.commands import data, fails


@dataclass(frozen=True)
class Cake:
    """Options of every kind."""

    name: str = field(metadata=describe("Name of the cake."))
    layers: int = field(default=3, metadata=describe("Layers.", ge=1, le=9, flag="--tall"))
    sugar: float | None = field(default=None, metadata=describe("Grams.", gt=0, shown_default="-"))
    kind: Literal["plum", "nut"] = field(default="nut", metadata=describe("Kind."))
    fruit: str = field(default="fig", metadata=describe("Fruit.", choices=("fig", "kiwi")))
    size: tuple[int, int] = field(default=(20, 30), metadata=describe("Of the tin."))
    heat: tuple[float, float] = field(default=(1.0, 2.0), metadata=describe("From, to."))
    prices: tuple[int, ...] = field(default=(), metadata=describe("Prices.", section="Money"))
    recipe: Path | None = field(default=None, metadata=describe("Recipe."))
    vegan: bool = field(default=False, metadata=describe("Without eggs."))
    baked: bool = field(default=True, metadata=describe("In the oven."))
    iced: bool | None = field(default=None, metadata=describe("With icing."))
    secret: int = 7

    def __post_init__(self) -> None:
        check(self)


@click.command(cls=Command)
@options_from(Cake, "cake", leave_out=("recipe",))
@click.option("--loud", is_flag=True)
def bake(cake: Cake, loud: bool) -> None:
    """Bake."""
    click.echo(repr((cake, loud)))


def baked(*arguments: str) -> str:
    result = CliRunner().invoke(bake, arguments)
    assert result.exit_code == 0, result.output
    return result.stdout.strip()


def test_without_options_the_dataclass_has_its_defaults() -> None:
    assert baked("--name", "a") == repr((Cake("a"), False))


@pytest.mark.parametrize(
    ("arguments", "values"),
    [
        ("--tall 9", {"layers": 9}),
        ("--sugar 0.5", {"sugar": 0.5}),
        ("--kind plum --fruit kiwi", {"kind": "plum", "fruit": "kiwi"}),
        ("--size 40x50", {"size": (40, 50)}),
        ("--heat 3 4", {"heat": (3.0, 4.0)}),
        ("--prices 1,2,3", {"prices": (1, 2, 3)}),
        ("--vegan --no-baked --no-iced", {"vegan": True, "baked": False, "iced": False}),
        ("--iced", {"iced": True}),
    ],
)
def test_options_become_fields_of_one_instance(arguments: str, values: dict[str, Any]) -> None:
    assert baked("--name", "a", "--loud", *arguments.split()) == repr((Cake("a", **values), True))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ("", "Missing option '--name'"),
        ("--name a --tall 10", "10 is not in the range 1<=x<=9"),
        ("--name a --sugar 0", "0.0 is not in the range x>0"),
        ("--name a --kind plumm", "Did you mean 'plum'?"),
        ("--name a --size 40", "expected HEIGHTxWIDTH"),
        ("--name a --prices 1,x", "'1,x' is not a list of numbers, such as 1,2,4."),
        ("--name a --recipe x", "No such option '--recipe'"),
        ("--name a --secret 8", "No such option '--secret'"),
    ],
)
def test_wrong_options_are_refused(arguments: str, words: str) -> None:
    result = CliRunner().invoke(bake, arguments.split())
    assert result.exit_code == 2
    assert words in result.stderr


def test_help_shows_defaults_and_bounds_that_are_not_obvious() -> None:
    lines = [" ".join(line.split()) for line in baked("--help").splitlines()]
    for line in (
        "--name TEXT Name of the cake. [required]",
        "--tall N Layers. [default: 3; 1<=x<=9]",
        "--sugar NUMBER Grams. [default: -]",
        "--kind [plum|nut] Kind. [default: nut]",
        "--size HxW Of the tin. [default: 20x30]",
        "--heat FLOAT... From, to. [default: 1.0, 2.0]",
        "--vegan Without eggs.",
        "--baked / --no-baked In the oven. [default: baked]",
        "--iced / --no-iced With icing.",
    ):
        assert line in lines
    assert lines[lines.index("Money:") + 1 :] == ["--prices N[,N…] Prices."]


# The dataclasses of the commands


def test_tiles_need_the_switch() -> None:
    assert StreamOptions(batch=4).arguments(LoadOptions())["options"].tiling is None
    arguments = StreamOptions(batch=4, tile=True).arguments(LoadOptions())
    assert arguments["batch"] == 1
    assert arguments["options"].tiling == Tiling(batch=4)
    chosen = StreamOptions(tile=True, overlap=0.5, blend="valid").arguments(LoadOptions())
    assert chosen["options"].tiling == Tiling(overlap=0.5, blend="valid")
    for name, value in (("overlap", 0.5), ("blend", "valid")):
        with pytest.raises(click.UsageError, match=f"--{name} needs --tile"):
            StreamOptions(**{name: value})  # type: ignore[arg-type]


def test_training_has_the_defaults_of_the_paper(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    came: list[TrainConfig] = []

    def train(*arguments: object, config: TrainConfig, **more: object) -> None:
        came.append(config)
        raise UsageError("seen")

    monkeypatch.setattr("edgeunet.cli.train.train", train)
    common = ["--data", "cells", "-o", tmp_path, "--batch", "2", "--no-amp"]
    for model, *more in (["unet"], ["unet", "--loss", "hybrid", "--elastic", "0"], ["resunet"]):
        assert fails(2, "train", *more, *common, "--model", model) == "error: seen\n"
    changes: dict[str, Any] = {"batch_size": 2, "amp": False}
    assert came == [
        TrainConfig.for_model("unet", **changes),
        TrainConfig.for_model("unet", loss="hybrid", elastic=0.0, **changes),
        TrainConfig.for_model("resunet", **changes),
    ]
    assert came[0].border == 10.0


def test_a_size_is_given_as_height_and_width() -> None:
    assert data("models", "--size", "64X96") == data("models", "--size", "64x96")
