"""`edgeunet demo`."""

from __future__ import annotations

from pathlib import Path

import click

from ..demo import demo
from .bench import table
from .common import DIRECTORY, force_option


@click.command("demo")
@click.option("-o", "output", type=DIRECTORY, default="demo", show_default=True)
@force_option
def command(output: Path, force: bool) -> None:
    """Export INT8, measure parity and segment a video, on procedural data."""
    result = demo(output, force=force, report=lambda step: click.echo(f"  {step}", err=True))
    summary = result.run
    click.echo(f"\n{result.parity.table()}\n\n{table(result.bench)}\n")
    click.echo(
        f"{summary.frames} frames to an overlay video, encoding included: "
        f"{summary.rate:.0f} frames/s"
    )
    click.echo(f"look at {output}/overlay.mp4 and {output}/parity.html")
