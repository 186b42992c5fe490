"""`edgeunet run`."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import cast, get_args

import click

from ..data.fit import Reading
from ..errors import IncompleteError, UnfinishedError
from ..runtime.options import LoadOptions
from ..runtime.run import RunSummary, run
from ..runtime.sinks.opening import OUTPUTS, Format
from ..runtime.sources.feed import Drop
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
@click.argument("sources", nargs=-1, required=True, metavar="SOURCE...")
@option(
    "-o",
    "output",
    metavar="OUTPUT",
    default="-",
    help=f"{OUTPUTS}.",
)
@option("--overlay", is_flag=True, help="Write overlays into the directory instead of masks.")
@option(
    "--format",
    "format_",
    type=Choice(get_args(Format)),
    show_default="that of OUTPUT",
    help="Write regions: COCO's JSON, a table of boxes and areas, or lines of polygons. Black "
    "classes are background and left out. A directory gets one file for each video and one for all "
    "images.",
)
@options_from(StreamOptions, "stream", section="Net")
@options_from(LoadOptions, "options", section="Net")
@options_from(Reading, "reading", section="Frames")
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
@option(
    "--skip-damaged",
    is_flag=True,
    help="Leave damaged frames of files out, and exit with 0. Without it, they are errors.",
)
@force_option
@json_option
def command(
    bundle: Path,
    sources: tuple[str, ...],
    output: str,
    options: LoadOptions,
    reading: Reading,
    stream: StreamOptions,
    max_delay: float | None,
    drop: Drop | None,
    overlay: bool,
    format_: Format | None,
    skip_damaged: bool,
    force: bool,
    as_json: bool,
) -> None:
    """Segment images, videos or a camera.

    SOURCE is an image, a folder, archive (.zip, .tar) or glob of images, or a video. Several of
    them are read one after the other. Or it is one camera or stream, such as 0, csi://0 or
    rtsp://HOST/PATH.

    Ctrl-C and SIGTERM end the run; the frames already read are still written. The exit code is 1 if
    a frame or a file could not be read; the others are written.
    """
    failure = None
    try:
        with progress("segmenting", None) as report:
            summary = run(
                bundle,
                sources,
                output,
                max_delay=None if max_delay is None else max_delay / 1000,
                drop=drop,
                overlay=overlay,
                format=format_,
                skip_damaged=skip_damaged,
                force=force,
                report=report,
                **stream.arguments(options, reading),
            )
    except IncompleteError as error:
        failure, summary = error, cast(RunSummary, error.summary)
    piped = output.startswith("pipe:")  # the masks have stdout to themselves
    if as_json:
        echo_json(asdict(summary), err=piped)
    else:
        click.echo(_words(summary, output), err=piped)
    if failure is not None:
        raise failure
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
        f"{summary.backend}" + ("" if output == "-" or not summary.frames else f", wrote {output}"),
        depths and f"frames at depth {depths}",
        ", ".join(f"{name}: {count}" for name, count in lost.items() if count),
        str(summary.ignored) and f"not read: {summary.ignored}",
        "" if summary.flicker is None else f"flicker: {summary.flicker:.2%} of static pixels",
        "busy: " + ", ".join(f"{name} {share:.0%}" for name, share in summary.busy.items()),
    ]
    return "\n".join(line for line in lines if line)
