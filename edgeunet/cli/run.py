"""`edgeunet run`."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import click

from ..manifest import Precision
from ..runtime.run import run
from ..runtime.sources import describe
from ..runtime.tiling import Blend
from .common import (
    DIRECTORY,
    backend_option,
    echo_json,
    force_option,
    json_option,
    precision_option,
    progress,
)
from .tiling import blend_option, overlap_option, tile_option, tiling_of


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
@click.option("--batch", type=click.IntRange(1), default=1, show_default=True)
@tile_option
@overlap_option
@blend_option
@force_option
@json_option
def command(
    bundle: Path,
    source: str,
    output: str,
    backend: str,
    precision: Precision | None,
    batch: int,
    tile: bool,
    overlap: float | None,
    blend: Blend | None,
    force: bool,
    as_json: bool,
) -> None:
    """Segment an image, a directory or glob of images, or a video."""
    tiling = tiling_of(tile, overlap, blend, batch)
    with progress("segmenting", describe(source).frames) as report:
        summary = run(
            bundle,
            source,
            output,
            backend=backend,
            precision=precision,
            batch=1 if tile else batch,
            tiling=tiling,
            force=force,
            report=report,
        )
    if as_json:
        echo_json(asdict(summary))
    else:
        click.echo(
            f"{summary.frames} frames in {summary.seconds:.1f} s, {summary.rate:.1f} frames/s on "
            f"{summary.backend}" + ("" if output == "-" else f", wrote {output}")
        )
