"""One page for each command, from what its `--help` shows."""

from __future__ import annotations

import inspect
import re
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager

import click

from edgeunet.cli.main import _SECTIONS, main
from reference.markdown import heading_of, prose

FOLDER = "reference/cli"

# Command -> the guides that use it.
_GUIDES = {
    "models": ("models",),
    "data": ("data",),
    "train": ("train", "data"),
    "tune": ("tune",),
    "prune": ("prune",),
    "gate": ("gate",),
    "export": ("any-net", "int8", "bundle"),
    "build": ("gpu",),
    "deploy": ("deploy",),
    "run": ("video", "large-images", "frame-rate", "results", "archives"),
    "serve": ("serve",),
    "parity": ("int8", "bundle"),
    "bench": ("engines", "benchmarks"),
    "inspect": ("bundle",),
    "doctor": ("gpu", "providers"),
}


# Between what stands in brackets behind a help text; a default may hold a semicolon too.
_PARTS = re.compile(r"; (?=required$|default: |\S*<=?x)")


class _Recorder(click.HelpFormatter):
    """Takes the sections of a help text instead of laying them out."""

    def __init__(self) -> None:
        super().__init__()
        self.sections: dict[str, list[tuple[str, str]]] = {}

    @contextmanager
    def section(self, name: str) -> Iterator[None]:
        self._rows = self.sections.setdefault(name, [])
        yield

    def write_dl(self, rows: object, *args: object, **given: object) -> None:
        assert isinstance(rows, list)
        self._rows += rows


def pages() -> dict[str, str]:
    """Path inside docs/ -> page."""
    group = click.Context(main, info_name="edgeunet", **main.context_settings)
    commands = {name: main.get_command(group, name) for name in main.list_commands(group)}
    found = {f"{FOLDER}/index.md": _index(commands)}
    for name, command in commands.items():
        assert command is not None
        found[f"{FOLDER}/{name}.md"] = _page(click.Context(command, group, name))
    return found


def _index(commands: dict[str, click.Command | None]) -> str:
    parts = [
        "# Commands",
        "What `edgeunet COMMAND --help` prints, a page for each command. Data goes to stdout, "
        "progress to stderr. The exit code is 0 if all is well, 1 if a run or a check failed, and "
        "2 if the command was called wrongly.",
    ]
    for title, names in _SECTIONS.items():
        rows = ["| command | |", "|---|---|"]
        for name in names:
            command = commands[name]
            assert command is not None
            rows.append(f"| [`{name}`]({name}.md) | {prose(command.get_short_help_str(200))} |")
        parts += [f"## {title}", "\n".join(rows)]
    return "\n\n".join(parts) + "\n"


def _page(ctx: click.Context) -> str:
    name, command = str(ctx.info_name), ctx.command
    usage = " ".join([ctx.command_path, *command.collect_usage_pieces(ctx)])
    parts = [f"# edgeunet {name}", f"```\n{usage}\n```", *_description(command.help or "")]
    if name in _GUIDES:
        links = [f"[{heading_of(guide)}](../../{guide}.md)" for guide in _GUIDES[name]]
        parts.append(f"Guides: {'; '.join(links)}.")
    recorder = _Recorder()
    command.format_options(ctx, recorder)
    for title, rows in recorder.sections.items():
        parts.append(f"## {title}")
        parts += [_entry(names.strip(), text) for names, text in rows]
    return "\n\n".join(parts) + "\n"


def _entry(names: str, text: str) -> str:
    """A row of a section: `--device INDEX` and its text, with what stands in brackets behind it."""
    help_text, _, extra = text.partition("  [")
    option = re.match(r"(?:-\w, )?--?([\w-]+)", names)
    anchor = f"{{ #{option[1]} }}" if option else ""
    lines = [prose(help_text)]
    for each in filter(None, _PARTS.split(extra.removesuffix("]"))):
        word, _, value = each.partition(": ")
        lines.append(f"{word.capitalize()}: {prose(value)}." if value else f"{_sentence(each)}.")
    return f"`{names}`{anchor}\n:   {' '.join(filter(None, lines))}"


def _sentence(extra: str) -> str:
    """What brackets say without a colon: "required", or a range such as 0<=x<=1."""
    return "Required" if extra == "required" else f"Range: `{extra}`"


def _description(help_text: str) -> Iterator[str]:
    """The paragraphs of a help text; in one behind a backspace, indented lines are a command."""
    for paragraph in inspect.cleandoc(help_text).split("\n\n"):
        if not paragraph.startswith("\b"):
            yield prose(" ".join(paragraph.split()))
            continue
        lines = paragraph.removeprefix("\b\n").split("\n")
        yield prose(" ".join(line for line in lines if not line.startswith(" ")))
        code = [line for line in lines if line.startswith(" ")]
        yield f"```\n{textwrap.dedent(chr(10).join(code))}\n```"
