"""`edgeunet run`."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import click

from ..manifest import Precision
from ..runtime.run import run
from ..runtime.sources import describe
from .common import (
    DIRECTORY,
    backend_option,
    echo_json,
    force_option,
    json_option,
    precision_option,
    progress,
)


@click.command("run")
@click.argument("bundle", type=DIRECTORY)
@click.argument("source")
@click.option(
    "-o",
    "output",
    default="-",
    show_default=True,
    help="NAME.mp4 (overlay), a directory (PNG masks) or - (none).",
)
@backend_option
@precision_option
@click.option(
    "--target-fps",
    type=click.FloatRange(min=0, min_open=True),
    help="Frame rate to hold, by switching between the depths that the bundle carries.",
)
@click.option("--batch", type=click.IntRange(1), default=1, show_default=True)
@force_option
@json_option
def command(
    bundle: Path,
    source: str,
    output: str,
    backend: str,
    precision: Precision | None,
    target_fps: float | None,
    batch: int,
    force: bool,
    as_json: bool,
) -> None:
    """Segment an image, a directory or glob of images, or a video."""
    with progress("segmenting", describe(source).frames) as report:
        summary = run(
            bundle,
            source,
            output,
            backend=backend,
            precision=precision,
            target_fps=target_fps,
            batch=batch,
            force=force,
            report=report,
        )
    if as_json:
        echo_json(asdict(summary))
    else:
        depths = ", ".join(f"{depth}: {frames}" for depth, frames in summary.depths.items())
        click.echo(
            f"{summary.frames} frames in {summary.seconds:.1f} s, {summary.rate:.1f} frames/s on "
            f"{summary.backend}"
            + (f", depths {depths}" if depths else "")
            + ("" if output == "-" else f", wrote {output}")
        )
