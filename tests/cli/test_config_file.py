"""`--config FILE.toml`: what goes before what, what is refused, and what is written back."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner, Result

from edgeunet.cli.common import SIZE, ListOf, option
from edgeunet.cli.config_file import config_option, write_config
from edgeunet.errors import UsageError

SEEN: dict[str, Any] = {}


@click.command("paint")
@config_option
@option("--colour", required=True, is_eager=True)
@option("--size", type=SIZE)
@option("--batch", "batch_size", type=click.IntRange(1), default=4)
@option("--scale", type=float, nargs=2)
@option("--mean", type=ListOf(float, "N,…"))
@option("--wet/--no-wet", default=True)
@option("--tag", multiple=True)
@option("-o", "output", type=click.Path(path_type=Path))
def paint(output: Path | None, **given: Any) -> None:
    """Stand for a command."""
    SEEN.clear()
    SEEN.update(given)
    if output is not None:
        write_config(output, without=("output",))


def call(folder: Path, text: str, *arguments: str) -> Result:
    (folder / "a.toml").write_text(text)
    words = ["--config", str(folder / "a.toml"), *arguments]
    return CliRunner().invoke(paint, words, catch_exceptions=False)


FILE = """
colour = "red"
size = [352, 480]
batch = 8
scale = [0.5, 1.6]
mean = [0.1, 0.2]
wet = false
"""


def test_values_are_those_of_the_file_and_then_of_the_command_line(tmp_path: Path) -> None:
    assert call(tmp_path, FILE, "--batch", "2", "--wet").exit_code == 0
    assert SEEN == {
        "colour": "red",
        "size": (352, 480),
        "batch_size": 2,
        "scale": (0.5, 1.6),
        "mean": (0.1, 0.2),
        "wet": True,
        "tag": (),
    }


@pytest.mark.parametrize("line", ['tag = "a"', 'tag = ["a"]', 'tag = ["a", "b"]'])
def test_option_that_may_be_given_twice_takes_one_or_a_list(tmp_path: Path, line: str) -> None:
    output = tmp_path / "run.toml"
    output.write_text(FILE + line)
    for _ in range(2):  # what was given, and what that wrote
        assert call(tmp_path, output.read_text(), "-o", str(output)).exit_code == 0
        assert SEEN["tag"] == (("a", "b") if "b" in line else ("a",))
    call(tmp_path, FILE + line, "--tag", "c")
    assert SEEN["tag"] == ("c",)


def test_what_was_given_is_written_and_read_again(tmp_path: Path) -> None:
    output = tmp_path / "run.toml"
    call(tmp_path, FILE.replace("batch = 8", ""), "--wet", "-o", str(output))
    first = dict(SEEN)
    assert "output" not in output.read_text() and "batch" not in output.read_text()
    assert call(tmp_path, output.read_text()).exit_code == 0
    assert first == SEEN


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("bach = 4", r"a.toml sets 'bach', which is no option of paint. Did you mean 'batch'\?"),
        ("config = 'b.toml'", "sets 'config', which is no option"),
        ("[batch]\nsize = 4", "batch is a table; expected a value of --batch"),
        ("batch = ", "a.toml cannot be read as TOML: "),
        ("\x00", "a.toml cannot be read as TOML: "),
    ],
)
def test_file_that_says_something_else_is_refused(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        call(tmp_path, text, "--colour", "red")


def test_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"none.toml cannot be read as TOML: .*No such file"):
        CliRunner().invoke(paint, ["--config", str(tmp_path / "none.toml")], catch_exceptions=False)


@pytest.mark.parametrize("line", ["batch = 0", 'batch = "many"'])
def test_values_are_checked_as_those_of_the_command_line(tmp_path: Path, line: str) -> None:
    result = call(tmp_path, line, "--colour", "red")
    assert result.exit_code == 2 and "--batch" in result.output
