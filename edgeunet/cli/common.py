"""Parameter types, options and output that several commands share."""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import click

from ..errors import did_you_mean, printable_lines


class Size(click.ParamType[tuple[int, int]]):
    """`HxW`, such as 352x480."""

    name = "HxW"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[int, int]:
        """(height, width)."""
        if isinstance(value, tuple):
            return value
        match = re.fullmatch(r"(\d+)[xX](\d+)", str(value))
        if match is None:
            self.fail(f"{value!r} is not a size; expected HEIGHTxWIDTH, such as 352x480.")
        return int(match[1]), int(match[2])

    def get_metavar(self, param: click.Parameter, ctx: click.Context) -> str:
        """As it is written, not in capitals."""
        return self.name


class ListOf(click.ParamType[tuple[Any, ...]]):
    """Values with commas between them, such as 1,4,8."""

    def __init__(self, item: Callable[[str], Any], name: str) -> None:
        self.item = item
        self.name = name

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[Any, ...]:
        """The values in the order given."""
        if isinstance(value, tuple):
            return value
        try:
            return tuple(self.item(part) for part in str(value).split(","))
        except ValueError:
            example = "0.485,0.456,0.406" if self.item is float else "1,2,4"
            self.fail(f"{value!r} is not a list of numbers, such as {example}.")


class Choice(click.Choice[str]):
    """A choice that guesses what a mistyped word was to be."""

    def __init__(self, choices: Sequence[str]) -> None:
        super().__init__(choices)

    def get_invalid_choice_message(self, value: Any, ctx: click.Context | None) -> str:
        """The known words, and the one that is closest."""
        known = [str(choice) for choice in self.choices]
        return super().get_invalid_choice_message(value, ctx) + did_you_mean(str(value), known)


class Option(click.Option):
    """An option with a short help: defaults as they are given, and no bounds that are obvious.

    section: heading that it stands under, None for the general one.
    """

    def __init__(self, *args: Any, section: str | None = None, **settings: Any) -> None:
        super().__init__(*args, **{"show_default": True, **settings})
        self.section = section

    def get_help_extra(self, ctx: click.Context) -> Any:
        """What stands in brackets behind the help text."""
        extra = super().get_help_extra(ctx)
        if isinstance(self.show_default, str):
            extra["default"] = self.show_default  # click puts it in parentheses
        if isinstance(self.type, (click.IntRange, click.FloatRange)) and self.type.max is None:
            extra.pop("range", None)
        return extra


class Command(click.Command):
    """A command whose options stand in sections."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The general options first, then the sections in the order of the options."""
        sections: dict[str, list[tuple[str, str]]] = {"Options": []}
        for param in self.get_params(ctx):
            record = param.get_help_record(ctx)
            if record is not None and isinstance(param, click.Option):
                title = getattr(param, "section", None) or "Options"
                sections.setdefault(title, []).append(record)
        width = max(len(names) for rows in sections.values() for names, _ in rows)
        for title, rows in sections.items():
            with formatter.section(title):
                formatter.write_dl([(names.ljust(min(width, 30)), text) for names, text in rows])


SIZE = Size()
DIRECTORY = click.Path(path_type=Path)
option = partial(click.option, cls=Option)
json_option = option("--json", "as_json", is_flag=True, help="Print JSON.")
force_option = option("--force", is_flag=True, help="Replace existing output.")


def echo_json(value: object, *, err: bool = False) -> None:
    """Print a value as indented JSON, on stderr if asked."""
    click.echo(json.dumps(value, indent=1), err=err)


_PAINTED = (
    (re.compile(r"OUT OF TOLERANCE.*|first out of tolerance: .*|^\s*error\b", re.MULTILINE), "red"),
    (
        re.compile(r"  ok$|all stages within tolerance|\b0 errors, 0 warnings", re.MULTILINE),
        "green",
    ),
    (re.compile(r"^(note|\s*warning)\b", re.MULTILINE), "yellow"),
)
"""Words that say how something ended, and their colours."""


def paint(text: str) -> str:
    """Text with colours for the words that say how something ended.

    Not with `NO_COLOR` (no-color.org), and `click.echo` leaves them out in files and pipes.
    """
    if os.environ.get("NO_COLOR"):
        return text
    for words, colour in _PAINTED:
        text = words.sub(click.style(r"\g<0>", fg=colour), text)
    return text


def echo(text: str, *, err: bool = False) -> None:
    """Print text that may hold names from files, on stderr if asked; see `paint`."""
    click.echo(paint(printable_lines(text)), err=err)


def echo_step(step: str) -> None:
    """Print a step of a long command on stderr."""
    echo(f"  {step}", err=True)


def echo_next(*commands: str) -> None:
    """Print what people type next, on stderr, if that is a terminal."""
    if sys.stderr.isatty():
        echo("next:\n" + "\n".join(f"  {command}" for command in commands), err=True)


@contextmanager
def progress(label: str, length: int | None) -> Iterator[Callable[..., None]]:
    """Bar with rate and remaining time on stderr.

    Yields a function that takes the count so far, and the length if it is known only then.
    """
    with click.progressbar(
        length=length or 1,
        label=label,
        show_pos=True,
        file=sys.stderr,
        hidden=not sys.stderr.isatty(),
    ) as bar:

        def report(count: int, length: int | None = None) -> None:
            bar.length = length or bar.length
            bar.update(count - bar.pos)

        yield report
