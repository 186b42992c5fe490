"""Options that a command takes from the fields of a dataclass."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import click
import pytest
from click.testing import CliRunner

from edgeunet.cli.common import Command
from edgeunet.cli.options import options_from
from edgeunet.fields import check, describe


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
