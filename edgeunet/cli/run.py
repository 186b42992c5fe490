"""`edgeunet run`."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import get_args

import click

from ..bundle.manifest import Precision
from ..errors import UnfinishedError
from ..runtime.backends.tiling import Blend
from ..runtime.options import LoadOptions
from ..runtime.run import RunSummary, run
from ..runtime.segmenter import Drop
from .common import (
    DIRECTORY,
    blend_option,
    echo_json,
    force_option,
    gpu_of,
    json_option,
    net_options,
    overlap_option,
    progress,
    target_fps_option,
    temporal_option,
    tile_option,
    tiling_of,
)


@click.command("run")
@click.argument("bundle", type=DIRECTORY)
@click.argument("source")
@click.option(
    "-o",
    "output",
    default="-",
    show_default=True,
    help="NAME.mp4 (overlay), NAME.jsonl (run lengths), a directory (PNG masks), pipe:masks or "
    "pipe:overlay (raw bytes on stdout), or - (none).",
)
@net_options
@target_fps_option
@click.option("--batch", type=click.IntRange(1), default=1, show_default=True)
@click.option(
    "--max-delay",
    type=click.FloatRange(0),
    metavar="MS",
    help="What a frame waits for others to fill its batch.  [50 for live sources, else for ever]",
)
@click.option(
    "--drop",
    type=click.Choice(get_args(Drop)),
    help="The frame that gives way where the net is slower.  [oldest for live sources, else none]",
)
@temporal_option
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
    device: int | None,
    dla: int | None,
    precision: Precision | None,
    target_fps: float | None,
    batch: int,
    max_delay: float | None,
    drop: Drop | None,
    temporal: float | None,
    tile: bool,
    overlap: float | None,
    blend: Blend | None,
    force: bool,
    as_json: bool,
) -> None:
    """Segment an image, a directory or glob of images, a video, or a camera.

    Ctrl-C and SIGTERM end it after the frames under way, and finish what is being written.
    """
    options = LoadOptions(
        precision=precision,
        tiling=tiling_of(tile, overlap, blend, batch),
        target_fps=target_fps,
        **gpu_of(device, dla),
    )
    with progress("segmenting", None) as report:
        summary = run(
            bundle,
            source,
            output,
            backend=backend,
            options=options,
            batch=1 if tile else batch,
            max_delay=None if max_delay is None else max_delay / 1000,
            drop=drop,
            temporal=temporal,
            force=force,
            report=report,
        )
    piped = output.startswith("pipe:")  # which has stdout to itself
    if as_json:
        echo_json(asdict(summary), err=piped)
    else:
        click.echo(_words(summary, output), err=piped)
    if summary.stopped and not summary.live:
        raise UnfinishedError(f"stopped by a signal after {summary.frames} frames.")


def _words(summary: RunSummary, output: str) -> str:
    """What was done, what was lost, and how busy each stage was."""
    stream = summary.stream
    lost = {
        "dropped": stream.dropped,
        "damaged and skipped": stream.skipped,
        "reconnects": stream.reconnects,
    }
    depths = ", ".join(f"{depth}: {frames}" for depth, frames in summary.depths.items())
    lines = [
        f"{summary.frames} frames in {summary.seconds:.1f} s, {summary.rate:.1f} frames/s on "
        f"{summary.backend}" + ("" if output == "-" else f", wrote {output}"),
        depths and f"frames at depth {depths}",
        ", ".join(f"{name}: {count}" for name, count in lost.items() if count),
        "" if summary.flicker is None else f"flicker: {summary.flicker:.2%} of static pixels",
        "busy: " + ", ".join(f"{name} {share:.0%}" for name, share in summary.busy.items()),
    ]
    return "\n".join(line for line in lines if line)
