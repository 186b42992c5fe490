"""`edgeunet bench`."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from pathlib import Path

import click

from ..bundle.bundle import open_bundle
from ..data.fit import Reading
from ..fields import described
from ..runtime.bench import BenchReport, bench, compare_precisions
from ..runtime.options import DEFAULTS, LoadOptions
from ..runtime.segmenter import Segmenter
from .bundle_options import backend_option, explain_choice, explain_option
from .common import DIRECTORY, Command, echo, echo_json, json_option
from .options import options_from


@dataclass(frozen=True)
class BenchOptions:
    """Arguments of `bench`."""

    source: str | None = described(
        None,
        "Images or video to take frames from.",
        metavar="PATH",
        shown_default="the golden frames",
    )
    batches: tuple[int, ...] = described((1,), "Batch sizes to time.", flag="--batch")
    repeats: int = described(40, "Timed calls per batch size.", ge=1)


@click.command("bench", cls=Command)
@click.argument("bundle", type=DIRECTORY)
@options_from(BenchOptions, "timed")
@backend_option
@explain_option
@options_from(LoadOptions, "options", section="Net", leave_out=("target_fps",))
@options_from(Reading, "reading", section="Frames")
@json_option
def command(
    bundle: Path,
    timed: BenchOptions,
    backend: str,
    explain: bool,
    options: LoadOptions,
    reading: Reading,
    as_json: bool,
) -> None:
    """Time every stage on this machine and recommend a precision."""
    if explain:
        explain_choice(bundle, backend, options)
    options = replace(options, reading=reading)
    with Segmenter.open_checked(bundle, backend, options) as segmenter:
        report = bench(segmenter, **asdict(timed))
        used = segmenter.backend.name
    verdict = None
    # PyTorch is the reference and computes in one precision; a DLA does not compute in all.
    if options.precision is None and options.dla is None and used != "pytorch":
        on_cpu = used == "onnxruntime"  # `auto` may have chosen it, and it takes no device
        named = used if backend == "auto" else backend  # a provider is part of what it is called
        chosen = DEFAULTS if on_cpu else options
        verdict = compare_precisions(open_bundle(bundle), named, chosen)
    if as_json:
        echo_json({**asdict(report), "verdict": verdict and asdict(verdict)})
    else:
        echo(table(report))
        if verdict is not None:
            echo(verdict.why)


def table(report: BenchReport) -> str:
    """Aligned text for a terminal."""
    height, width = report.frame_size
    lines = [
        f"{report.model} {report.precision} on {report.backend}, frames {height}x{width}, "
        f"{report.environment['processor']}, {report.environment['cores']} cores",
        f"{'batch':>5}  {'stage':<12}{'p50 ms':>9}{'p90 ms':>9}{'p99 ms':>9}   (per frame)",
    ]
    for row in report.batches:
        for stage, times in row.stages.items():
            lines.append(
                f"{row.batch:>5}  {stage:<12}{times.p50:>9.2f}{times.p90:>9.2f}{times.p99:>9.2f}"
            )
        lines.append(
            f"{row.batch:>5}  {row.net_rate:.1f} frames/s through the net, {row.serial_rate:.1f} "
            "with all stages one after the other"
        )
    lines.append(f"peak memory {report.peak_memory_mb:.0f} MB")
    return "\n".join(lines)
