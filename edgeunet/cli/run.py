"""`edgeunet run`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast, get_args

import click

from ..data.fit import Reading
from ..errors import IncompleteError, UnfinishedError, printable
from ..runtime.options import LoadOptions, VideoDecoder
from ..runtime.run import RunSummary, run
from ..runtime.sinks.opening import OUTPUTS, Format, kind_of
from ..runtime.sources.addresses import scheme_of
from ..runtime.sources.feed import Drop
from ..runtime.stream import SourceReport, StreamReport
from .bundle_options import StreamOptions, bundle_of, explain_choice, explain_option
from .common import (
    Choice,
    Command,
    echo,
    echo_json,
    force_option,
    json_option,
    option,
    progress,
)
from .completion import BundlePath
from .options import options_from

if TYPE_CHECKING:
    from ..runtime.archive import ArchiveSummary


@click.command("run", cls=Command)
@click.argument("bundle", type=BundlePath(packaged=True))
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
    "classes are background and left out. A directory gets one file for each source.",
)
@option(
    "--workers",
    type=click.IntRange(1),
    metavar="N",
    section="Archives",
    show_default="none: in this process",
    help="Segment a folder, archive, Parquet table or list of addresses on N workers of Ray, into "
    "tar archives of masks in the folder or address OUTPUT. Run again to go on after an end.",
)
@option(
    "--ray",
    "address",
    metavar="ADDRESS",
    section="Archives",
    show_default="Ray is started on this machine",
    help="Ray cluster that has the workers: auto, or HOST:6379.",
)
@option(
    "--column",
    metavar="NAME",
    section="Archives",
    show_default="the only one that fits",
    help="Column of Parquet tables that holds encoded images.",
)
@options_from(StreamOptions, "stream", section="Net")
@options_from(LoadOptions, "options", section="Net")
@explain_option
@options_from(Reading, "reading", section="Frames")
@option(
    "--max-delay",
    type=click.FloatRange(0),
    metavar="MS",
    show_default="50 for live and several sources, else no limit",
    help="Longest time to wait for a batch to fill.",
)
@option(
    "--drop",
    type=Choice(get_args(Drop)),
    show_default="oldest for live sources, else none",
    help="Which frames to drop if the net cannot keep up.",
)
@option(
    "--decoder",
    type=Choice(get_args(VideoDecoder)),
    default="ffmpeg",
    section="Frames",
    help="What decodes video files: ffmpeg on the CPU, or nvdec, an NVIDIA GPU's decoder, whose "
    "frames stay there. It needs --backend tensorrt or rtx, and patches damage without telling.",
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
    explain: bool,
    max_delay: float | None,
    drop: Drop | None,
    decoder: VideoDecoder,
    overlay: bool,
    format_: Format | None,
    workers: int | None,
    address: str | None,
    column: str | None,
    skip_damaged: bool,
    force: bool,
    as_json: bool,
) -> None:
    """Segment images, videos and cameras. `edgeunet predict` is the same.

    BUNDLE is one, or MODEL:TAG of packaged weights, such as mobile_unet:camvid: they are exported
    at their first use, to INT8 if SOURCE is a file or a folder to calibrate with.

    SOURCE is an image, a folder, archive (.zip, .tar) or glob of images, a video, a bag of ROS
    (.bag, .mcap, bag:FILE?topic=/image), or a camera or stream, such as 0, csi://0 or
    rtsp://HOST/PATH.

    Several share the net and are read side by side, each into OUTPUT/NAME: its own name, or that in
    NAME=SOURCE. Images given one by one are one source. If OUTPUT is one file, sources with an end
    are read one after the other; OUTPUT with {source} is a file of each, such as {source}.mp4.

    With --workers N, SOURCE is a folder or glob of images or of archives, a ZIP, TAR (WebDataset)
    or Parquet file, or a .txt of paths and addresses, on this machine or at an address such as
    s3://BUCKET/NAME.

    Ctrl-C and SIGTERM end the run; the frames already read are still written. The exit code is 1 if
    a frame, a file or a source could not be read; the others are written.
    """
    # Workers read lists and places of their own.
    bundle = bundle_of(bundle, sources, checked=workers is None, quiet=as_json)
    if workers is not None:
        _refuse_unused(
            {
                "--overlay": overlay,
                "--format": format_,
                "--max-delay": max_delay,
                "--drop": drop,
                "--temporal": stream.temporal,
                "--target-fps": options.target_fps,
                "--device": options.device,
                "--decoder": None if decoder == "ffmpeg" else decoder,
                "--explain": explain,
            },
            "--workers",
            "makes masks of files, on any machine",
        )
        given = stream.arguments(options, reading)
        del given["temporal"]
        _run_archive(
            bundle,
            sources,
            output,
            as_json=as_json,
            workers=workers,
            address=address,
            column=column,
            skip_damaged=skip_damaged,
            force=force,
            **given,
        )
        return
    for name, value in {"--ray": address, "--column": column}.items():
        if value is not None:
            raise click.UsageError(f"{name} needs --workers.")
    if explain:
        explain_choice(bundle, stream.backend, options)
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
                decoder=decoder,
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
    if summary.unfinished:
        several = len(summary.stream.sources) > 1
        whose = f", before the end of {', '.join(summary.unfinished)}" if several else ""
        raise UnfinishedError(f"stopped by a signal after {summary.frames} frames{whose}.")


def _refuse_unused(given: Mapping[str, object], beside: str, reason: str) -> None:
    """Refuse options that would do nothing."""
    named = [name for name, value in given.items() if value is not None and value is not False]
    if named:
        raise click.UsageError(f"{beside} {reason}; leave out {', '.join(named)}.")


def _run_archive(
    bundle: Path, sources: Sequence[str], output: str, *, as_json: bool, **settings: Any
) -> None:
    """Run on workers, and print the summary."""
    from ..runtime.archive import run_archive

    if scheme_of(output) is None and kind_of(output) is not None:
        raise click.UsageError(
            f"--workers writes a folder of tar archives; expected -o FOLDER or an address, got "
            f"{'no -o' if output == '-' else output}."
        )
    failure = None
    try:
        with progress("segmenting", None) as report:
            summary = run_archive(bundle, sources, output, report=report, **settings)
    except IncompleteError as error:
        failure, summary = error, cast("ArchiveSummary", error.summary)
    if as_json:
        echo_json(asdict(summary))
    else:
        echo(_archive_words(summary, output))
    if failure is not None:
        raise failure
    if summary.stopped:
        raise UnfinishedError(
            f"stopped by a signal after {summary.units} of {summary.planned} units. Run again to "
            "go on."
        )


def _archive_words(summary: ArchiveSummary, output: str) -> str:
    """What is done, and what is not."""
    total = sum(summary.pixels.values())
    shares = [
        f"{name} {count / total:.1%}"
        for name, count in sorted(summary.pixels.items(), key=lambda each: -each[1])
    ]
    lines = [
        f"{summary.frames} frames in {summary.units} of {summary.planned} shards, in {output}",
        f"{summary.resumed} shards were there already" if summary.resumed else "",
        f"this run: {summary.seconds:.1f} s, {summary.rate:.1f} frames/s, {summary.workers} "
        f"workers on {', '.join(summary.backends) or 'no backend'}",
        f"pixels: {', '.join(shares)}" if shares else "",
        f"damaged and left out: {summary.damaged}" if summary.damaged else "",
        f"not read: {summary.ignored}" if str(summary.ignored) else "",
    ]
    return "\n".join(line for line in lines if line)


def _words(summary: RunSummary, output: str) -> str:
    """Frames segmented and lost, of each source too, and how busy each stage was."""
    stream = summary.stream
    depths = ", ".join(f"{depth}: {frames}" for depth, frames in summary.depths.items())
    several = stream.sources if len(stream.sources) > 1 else {}
    lines = [
        f"{summary.frames} frames in {summary.seconds:.1f} s, {summary.rate:.1f} frames/s on "
        f"{summary.backend} {summary.precision.upper()}"
        + (f", {_written(output)}" if summary.frames else ""),
        depths and f"frames at depth {depths}",
        _lost(stream),
        *(_of_source(name, each, summary) for name, each in several.items()),
        _fairness(stream),
        str(summary.ignored) and f"not read: {summary.ignored}",
        "" if summary.flicker is None else f"flicker: {summary.flicker:.2%} of static pixels",
        "busy: " + ", ".join(_busy(summary.busy)),
    ]
    return "\n".join(line for line in lines if line)


def _written(output: str) -> str:
    return "wrote nothing; -o overlay.mp4 would" if output == "-" else f"wrote {output}"


def _busy(shares: Mapping[str, float]) -> Iterator[str]:
    """How busy each stage was; the busiest limits the rate."""
    most = max(shares.values(), default=0)
    for name, share in shares.items():
        yield f"{name} {share:.0%}{' (limits the rate)' if share == most > 0 else ''}"


def _lost(report: StreamReport | SourceReport) -> str:
    """Counts of what went wrong, as far as it did."""
    lost = {
        "dropped": report.dropped,
        "damaged and skipped": report.skipped,
        "reconnects": report.reconnects,
    }
    return ", ".join(f"{name}: {count}" for name, count in lost.items() if count)


def _of_source(name: str, report: SourceReport, summary: RunSummary) -> str:
    """What became of one of several sources."""
    latency = f"latency {report.latency_p50:.0f} ms, 99 % within {report.latency_p99:.0f} ms"
    parts = [
        f"{report.segmented} frames",
        f"{report.segmented / summary.seconds:.1f} frames/s",
        latency if report.segmented else "",
        _lost(report),
        report.error and f"failed: {report.error}",
    ]
    return printable(f"  {name}: {', '.join(part for part in parts if part)}")


def _fairness(stream: StreamReport) -> str:
    """Whether the net took the same share of the frames of each of several sources."""
    if stream.fairness is None:
        return ""
    counts = [each for each in stream.sources.values() if each.segmented + each.dropped]
    shares = [each.segmented / (each.segmented + each.dropped) for each in counts]
    return (
        f"fairness {stream.fairness:.2f}: {min(shares):.0%} to {max(shares):.0%} of the frames of "
        "each source segmented"
    )
