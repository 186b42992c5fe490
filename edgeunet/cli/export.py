"""`edgeunet export`."""

from __future__ import annotations

import shlex
from dataclasses import replace
from pathlib import Path

import click

from ..bundle.manifest import Exported
from ..data.fit import Reading
from ..errors import UsageError
from ..exporting import ExportOptions, Preparation, export_bundle
from .common import (
    DIRECTORY,
    Command,
    echo,
    echo_json,
    echo_next,
    force_option,
    json_option,
    option,
)
from .options import options_from
from .steps import ShownSteps


@click.command("export", cls=Command)
@options_from(ExportOptions, "options")
@options_from(
    Preparation,
    "preparation",
    section="Weights without a card",
    leave_out=("channels", "levels"),  # those of the frames
)
@options_from(Reading, "reading", section="Frames")
@option("--fp16", is_flag=True, help="Write the FP16 graph too.")
@option("--int8", is_flag=True, help="Write the FP16 and INT8 graphs too.")
@option(
    "-o", "output", type=DIRECTORY, show_default="MODEL-WEIGHTS-PRECISION", help="Bundle to write."
)
@force_option
@json_option
def command(
    options: ExportOptions,
    preparation: Preparation,
    reading: Reading,
    fp16: bool,
    int8: bool,
    output: Path | None,
    force: bool,
    as_json: bool,
) -> None:
    """Turn a net into a bundle and prove it against the original."""
    if fp16 and int8:
        raise UsageError("got both --fp16 and --int8. Pass --int8: it writes the FP16 graph too.")
    precision: Exported = "int8" if int8 else "fp16" if fp16 else "fp32"
    options = replace(options, precision=precision, preparation=preparation, reading=reading)
    target = output or Path(options.name)
    with ShownSteps(quiet=as_json) as steps:
        parity = export_bundle(target, options, force=force, report=steps)
    if as_json:
        echo_json({"bundle": str(target), "parity": parity.to_json()})
    else:
        echo(f"{parity.table()}\nwrote {target}")
        bundle = shlex.quote(str(target))
        echo_next(
            f"edgeunet run {bundle} FILM.mp4 -o overlay.mp4",
            f"edgeunet bench {bundle} --all",
        )
