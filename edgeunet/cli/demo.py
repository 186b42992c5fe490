"""`edgeunet demo`."""

from __future__ import annotations

import shlex
from pathlib import Path

import click

from ..demo import BUNDLE, demo
from .bench import table
from .common import DIRECTORY, Command, echo, echo_next, force_option, option
from .steps import ShownSteps


@click.command("demo", cls=Command)
@option(
    "-o",
    "output",
    type=DIRECTORY,
    default="demo",
    help="Directory for the bundle, the videos and the report.",
)
@force_option
def command(output: Path, force: bool) -> None:
    """Export, check and run a net on procedural data.

    Downloads nothing.
    """
    with ShownSteps() as steps:
        result = demo(output, force=force, report=steps)
    summary = result.run
    echo(f"\n{result.parity.table()}\n\n{table(result.bench)}\n")
    echo(
        f"{summary.frames} frames to an overlay video, encoding included: "
        f"{summary.rate:.0f} frames/s"
    )
    echo(f"look at {output}/overlay.mp4 and {output}/parity.html")
    bundle = shlex.quote(f"{output}/{BUNDLE}")
    echo_next(
        f"edgeunet run {bundle} FILM.mp4 -o overlay.mp4   # your own, of cells",
        "edgeunet run mobile_unet:camvid FILM.mp4 -o overlay.mp4   # of streets",
    )
