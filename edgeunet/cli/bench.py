"""`edgeunet bench`."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import click

from ..bundle.manifest import Precision
from ..runtime.bench import BenchReport, bench, compare_precisions
from ..runtime.options import LoadOptions
from ..runtime.segmenter import Segmenter
from .common import DIRECTORY, echo_json, gpu_of, json_option, net_options


class BatchList(click.ParamType[list[int]]):
    """`1,4,8`."""

    name = "N,N,…"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> list[int]:
        """Batch sizes in the order given."""
        try:
            return [int(part) for part in str(value).split(",")]
        except ValueError:
            self.fail(f"{value!r} is not a list of batch sizes, such as 1,4,8.")


@click.command("bench")
@click.argument("bundle", type=DIRECTORY)
@click.option("--source", help="Images or video to take frames from.  [the golden frames]")
@net_options
@click.option("--batch", "batches", type=BatchList(), default="1", show_default=True)
@click.option("--repeats", type=click.IntRange(1), default=40, show_default=True)
@json_option
def command(
    bundle: Path,
    source: str | None,
    backend: str,
    device: int | None,
    dla: int | None,
    precision: Precision | None,
    batches: list[int],
    repeats: int,
    as_json: bool,
) -> None:
    """Time a bundle on this machine, stage by stage, and say which precision to use."""
    options = LoadOptions(precision=precision, **gpu_of(device, dla))
    with Segmenter.open(bundle, backend, options) as segmenter:
        report = bench(segmenter, batches=batches, source=source, repeats=repeats)
        opened, used = segmenter.bundle, segmenter.backend.name
    # PyTorch is the reference, and computes in one precision; a DLA does not compute all of them.
    alone = precision is not None or dla is not None or used == "pytorch"
    if used == "onnxruntime":  # chosen by `auto`: it has no use for a GPU's options
        options = LoadOptions()
    verdict = None if alone else compare_precisions(opened, used, options)
    if as_json:
        echo_json({**asdict(report), "verdict": verdict and asdict(verdict)})
    else:
        click.echo(table(report))
        if verdict is not None:
            click.echo(verdict.why)


def table(report: BenchReport) -> str:
    """Aligned text for a terminal."""
    height, width = report.frame_size
    lines = [
        f"{report.model} {report.precision} on {report.backend}, frames {height}x{width}, "
        f"{report.environment['processor']}, {report.environment['cores']} cores",
        f"{'batch':>5}  {'stage':<12}{'p50 ms':>9}{'p90 ms':>9}{'p99 ms':>9}   (a frame)",
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
