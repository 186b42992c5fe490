"""`edgeunet data`."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from ..data.check import SHOWN, Contents, advice_without_pixels, survey
from ..data.datasets import SPLITS, open_dataset
from ..data.layouts import LAYOUTS
from ..errors import OutputError, OutputExistsError
from .common import DIRECTORY, Command, echo, echo_json, force_option, json_option, option, progress


class _WithLayouts(Command):
    """Lists the layouts in its help."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Behind the options."""
        super().format_options(ctx, formatter)
        with formatter.section("Layouts"):
            formatter.write_dl([(name, family.form) for name, family in LAYOUTS.items()])


@click.command("data", cls=_WithLayouts)
@click.argument("folder", metavar="DIR", type=DIRECTORY)
@option(
    "--layout",
    metavar="NAME",
    show_default="what the folder shows",
    help="Layout of the data set.",
)
@option("-o", "output", type=DIRECTORY, help="PAGE.html to write, with samples.")
@force_option
@json_option
def command(
    folder: Path, layout: str | None, output: Path | None, force: bool, as_json: bool
) -> None:
    """Show what a data set holds, and all that is wrong with it.

    The layout is what dataset.json or --layout says, or what the folder's files show. The exit code
    is 1 if the data set cannot be trained on.
    """
    if output is not None:
        _check_page(output, force=force)
    dataset = open_dataset(folder, layout)
    total = sum(len(dataset.samples(split)) for split in SPLITS)
    with progress("reading", total) as report:
        found = survey(dataset, report=report)
    if output is not None:
        from ..data.page import write_page  # needs jinja2, which only this does

        write_page(output, dataset, found)
    contents, missing = found.contents, list(found.contents.missing())
    if as_json:
        problems = [
            *found.problems,
            *(f"{name!r} has no pixel in {split}" for split, name in missing),
        ]
        echo_json({**contents.to_json(), "problems": problems})
    else:
        _print(contents, found.problems, missing)
        if missing:
            echo(advice_without_pixels(dataset, missing))
        if output is not None:
            echo(f"wrote {output}")
    if found.problems or missing:
        sys.exit(1)


def _check_page(output: Path, *, force: bool) -> None:
    if output.suffix.lower() not in (".html", ".htm") or output.is_dir():
        raise OutputError(f"expected the name of a page such as data.html, got {output}.")
    if output.exists() and not force:
        raise OutputExistsError(output)


def _print(contents: Contents, problems: tuple[str, ...], missing: list[tuple[str, str]]) -> None:
    rows = {
        "layout": contents.layout,
        "sizes": contents.sizes_text() or "none",
        "values": f"{contents.channels}, {contents.depth}, {contents.span[0]:g} to "
        f"{contents.span[1]:g}",
    }
    for label, text in rows.items():
        echo(f"{label:<10}{text}")
    for notice in contents.notices:
        echo(f"{'note':<10}{notice}")
    echo(f"\n{contents.table()}")
    for problem in problems[:SHOWN]:
        echo(f"wrong: {problem}")
    if len(problems) > SHOWN:
        echo(f"and {len(problems) - SHOWN} more samples are wrong")
    for split, name in missing[:SHOWN]:
        echo(f"wrong: {name!r} has no pixel in {split}")
    if len(missing) > SHOWN:
        echo(f"and {len(missing) - SHOWN} more classes have no pixel")
