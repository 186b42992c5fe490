"""`edgeunet bench`."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from pathlib import Path

import click

from ..bundle.bundle import open_bundle
from ..data.fit import Reading
from ..errors import UsageError
from ..fields import check, described
from ..runtime.bench import BenchReport, bench, compare_precisions
from ..runtime.options import DEFAULTS, LoadOptions
from ..runtime.segmenter import Segmenter
from .bundle_options import backend_option, explain_choice, explain_option
from .common import Command, echo, echo_json, json_option
from .completion import BundlePath
from .matrix import MatrixOptions, check_matrix, print_matrix
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
    threads: tuple[int, ...] = described(
        (),
        "CPU threads; several with --all.",
        metavar="N[,N…]",
        shown_default="all cores",
        section="Net",
        ge=1,
    )
    repeats: int = described(40, "Timed calls per batch size.", ge=1)


@click.command("bench", cls=Command)
@click.argument("bundle", type=BundlePath())
@options_from(BenchOptions, "timed")
@backend_option
@explain_option
@options_from(LoadOptions, "options", section="Net", leave_out=("target_fps", "threads"))
@options_from(Reading, "reading", section="Frames")
@options_from(MatrixOptions, "matrix")
@json_option
def command(
    bundle: Path,
    timed: BenchOptions,
    backend: str,
    explain: bool,
    options: LoadOptions,
    reading: Reading,
    matrix: MatrixOptions,
    as_json: bool,
) -> None:
    """Time every stage on this machine and recommend a precision.

    With --all: time every engine and precision that runs here, and recommend one.
    """
    check_matrix(matrix, _of_bench_alone(timed, backend, options, explain=explain))
    check(timed)
    options = replace(options, reading=reading)
    if matrix.everything:
        print_matrix(
            bundle, matrix, options, batches=timed.batches, threads=timed.threads, as_json=as_json
        )
        return
    if len(timed.threads) > 1:
        several = ",".join(map(str, timed.threads))
        raise UsageError(
            f"got --threads {several}; expected one number. Add --all to time several."
        )
    options = replace(options, threads=timed.threads[0] if timed.threads else None)
    if explain:
        explain_choice(bundle, backend, options)
    with Segmenter.open_checked(bundle, backend, options) as segmenter:
        report = bench(segmenter, batches=timed.batches, source=timed.source, repeats=timed.repeats)
        used, choice = segmenter.backend.name, segmenter.choice
    verdict = None
    # PyTorch is the reference and computes in one precision; a DLA does not compute in all.
    if options.precision is None and options.dla is None and used != "pytorch":
        named, chosen = (used if backend == "auto" else backend), options
        if used == "onnxruntime":  # `auto` may have fallen back to it, and it takes no device
            named, chosen = used, replace(DEFAULTS, threads=options.threads)
        elif choice is not None:
            named, chosen = choice.use.backend, choice.use.options(options)
        verdict = compare_precisions(open_bundle(bundle), named, chosen)
    if as_json:
        echo_json({**asdict(report), "verdict": verdict and asdict(verdict)})
    else:
        echo(table(report))
        if verdict is not None:
            echo(verdict.why)


def _of_bench_alone(
    timed: BenchOptions, backend: str, options: LoadOptions, *, explain: bool
) -> dict[str, str]:
    """Options that `--all` does not use, as far as they were given, and what to do instead."""
    known = {
        "--source": (timed.source is not None, "Pass frames as --data"),
        "--repeats": (timed.repeats != BenchOptions.repeats, "All rows get the same time"),
        "--backend": (backend != "auto", "It times all of them"),
        "--provider": (options.provider is not None, "It times those that this machine can use"),
        "--explain": (explain, "It prints all that auto chooses from"),
    }
    return {flag: advice for flag, (given, advice) in known.items() if given}


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
