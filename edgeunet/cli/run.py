"""`edgeunet run`."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import get_args

import click

from ..errors import UnfinishedError
from ..runtime.options import LoadOptions
from ..runtime.run import RunSummary, run
from ..runtime.segmenter import Drop
from ..runtime.sinks.opening import OUTPUTS
from .bundle_options import StreamOptions
from .common import (
    DIRECTORY,
    Choice,
    Command,
    echo_json,
    force_option,
    json_option,
    option,
    progress,
)
from .options import options_from


@click.command("run", cls=Command)
@click.argument("bundle", type=DIRECTORY)
@click.argument("source")
@option(
    "-o",
    "output",
    metavar="OUTPUT",
    default="-",
    help=f"{OUTPUTS}.",
)
@option("--overlay", is_flag=True, help="Write overlays into the directory instead of masks.")
@options_from(StreamOptions, "stream", section="Net")
@options_from(LoadOptions, "options", section="Net")
@option(
    "--max-delay",
    type=click.FloatRange(0),
    metavar="MS",
    show_default="50 for live sources, else no limit",
    help="Longest time to wait for a batch to fill.",
)
@option(
    "--drop",
    type=Choice(get_args(Drop)),
    show_default="oldest for live sources, else none",
    help="Which frames to drop if the net cannot keep up.",
)
@force_option
@json_option
def command(
    bundle: Path,
    source: str,
    output: str,
    options: LoadOptions,
    stream: StreamOptions,
    max_delay: float | None,
    drop: Drop | None,
    overlay: bool,
    force: bool,
    as_json: bool,
) -> None:
    """Segment images, a video or a camera.

    SOURCE is an image, a directory or glob of images, a video, or the address of a camera or
    stream, such as v4l2:///dev/video0, csi://0 or rtsp://HOST/PATH.

    Ctrl-C and SIGTERM end the run; the frames already read are still written.
    """
    with progress("segmenting", None) as report:
        summary = run(
            bundle,
            source,
            output,
            max_delay=None if max_delay is None else max_delay / 1000,
            drop=drop,
            overlay=overlay,
            force=force,
            report=report,
            **stream.arguments(options),
        )
    piped = output.startswith("pipe:")  # the masks have stdout to themselves
    if as_json:
        echo_json(asdict(summary), err=piped)
    else:
        click.echo(_words(summary, output), err=piped)
    if summary.stopped and not summary.live:
        raise UnfinishedError(f"stopped by a signal after {summary.frames} frames.")


def _words(summary: RunSummary, output: str) -> str:
    """Frames segmented and lost, and how busy each stage was."""
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
