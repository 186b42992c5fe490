"""U-Net++ at each depth: parameters, GFLOPs, latency and mIoU, as a Markdown table.

    python benchmarks/depths.py WEIGHTS --data DIR [--calib DIR] [--threads 2] [--json]

The table of Zhou et al., "UNet++", DLMIA 2018 (arXiv 1807.10165), section 4, for one's own weights
and data: WEIGHTS is a tag or a file of a U-Net++ with deep supervision, DIR a data set whose
validation split is segmented. Each depth is exported to an INT8 bundle; its FP32 and INT8 graphs
take turns with those of all other depths, figures are medians, and ratios are of this run. The mIoU
is PyTorch's and the INT8 bundle's, and no latency is printed for graphs that do not agree with
PyTorch.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from itertools import cycle
from pathlib import Path

import click
import torch

from edgeunet import ExportOptions, export_bundle, load
from edgeunet.doctor import environment
from edgeunet.latency import median_latencies
from edgeunet.models import UNetPP
from edgeunet.models.checkpoints import find_weights, load_checkpoint
from edgeunet.models.summary import count
from edgeunet.parity import ParityReport
from edgeunet.runtime.bundle import CHECKPOINT_NAME
from edgeunet.runtime.segmenter import Segmenter


@dataclass(frozen=True)
class Row:
    """One depth; latencies are of one image, mIoU in percent."""

    depth: int
    parameters: int
    gflops: float
    fp32_ms: float
    int8_ms: float
    miou: float
    int8_miou: float


@click.command()
@click.argument("weights")
@click.option("--data", type=click.Path(path_type=Path), required=True)
@click.option("--calib", type=click.Path(path_type=Path), help="[--data]")
@click.option("--max-iou-drop", default=0.5, show_default=True, help="Of INT8, IoU points.")
@click.option("--threads", default=2, show_default=True)
@click.option("--rounds", default=8, show_default=True)
@click.option("--json", "as_json", is_flag=True)
def main(
    weights: str,
    data: Path,
    calib: Path | None,
    max_iou_drop: float,
    threads: int,
    rounds: int,
    as_json: bool,
) -> None:
    """Export, check, time, print."""
    torch.set_num_threads(threads)
    net, card = load_checkpoint(find_weights("unetpp", weights))
    assert isinstance(net, UNetPP), f"{weights} is a checkpoint of {card.model}"
    options = ExportOptions(
        "unetpp", weights, "int8", calib=calib or data, data=data, max_iou_drop=max_iou_drop
    )
    with tempfile.TemporaryDirectory(prefix="edgeunet-depths-") as folder:
        rows = _rows(net.depth, options, Path(folder), threads=threads, rounds=rounds)
    report = {
        "weights": weights,
        "data": data.resolve().name,
        "input": f"{card.input.height}x{card.input.width}",
        "threads": threads,
        "depths": [asdict(row) for row in rows],
        "environment": environment(),
    }
    click.echo(json.dumps(report, indent=1) if as_json else _markdown(rows, report))


def _rows(
    deepest: int, options: ExportOptions, folder: Path, *, threads: int, rounds: int
) -> list[Row]:
    """A row for each depth, the latencies of all of them taken in turns."""
    depths = range(1, deepest + 1)
    reports = {depth: _export(folder / str(depth), options, depth) for depth in depths}
    with ExitStack() as stack:
        calls = {}
        for depth in depths:
            for flavour in ("fp32", "int8.cpu"):
                segmenter = load(folder / str(depth), flavour=flavour, threads=threads)
                calls[f"{depth} {flavour}"] = _net_alone(stack.enter_context(segmenter))
        latencies = median_latencies(calls, rounds=rounds)
    rows = []
    for depth, parity in reports.items():
        net, card = load_checkpoint(folder / str(depth) / CHECKPOINT_NAME)
        spec = card.input
        cost = count(net, height=spec.height, width=spec.width, channels=spec.channels)
        rows.append(
            Row(
                depth,
                cost.parameters,
                cost.gflops,
                latencies[f"{depth} fp32"],
                latencies[f"{depth} int8.cpu"],
                parity.reference_miou,
                parity.candidate.miou,
            )
        )
    return rows


def _export(bundle: Path, options: ExportOptions, depth: int) -> ParityReport:
    """Its parity; INT8 beyond the allowed drop raises in the export, FP32 is asserted here."""
    parity = export_bundle(bundle, replace(options, depth=depth))
    fp32 = next(stage for stage in parity.stages if stage.name == "fp32")
    assert fp32.ok, f"depth {depth}: the FP32 graph agrees on {fp32.agreement:.3%} of the pixels"
    return parity


def _net_alone(segmenter: Segmenter) -> Callable[[], object]:
    """A call of the net on the next of the golden frames, without pre- and post-processing."""
    frames = segmenter.bundle.golden().frames
    images = cycle([segmenter.backend.preprocess([frame]) for frame in frames])
    return lambda: segmenter.backend.infer(next(images))


def _markdown(rows: list[Row], report: dict[str, object]) -> str:
    machine: dict[str, str] = report["environment"]  # type: ignore[assignment]
    last = rows[-1]
    lines = [
        f"unetpp {report['weights']} on {report['data']}, {report['input']}, batch 1, "
        f"{report['threads']} threads, {machine['processor']}, onnxruntime "
        f"{machine['onnxruntime']}",
        "",
        "| depth | parameters | GFLOPs | FP32 ms | INT8 ms | mIoU | mIoU INT8 |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        lines.append(
            f"| {row.depth} | {row.parameters:,} ({row.parameters / last.parameters:.0%}) "
            f"| {row.gflops:.2f} ({row.gflops / last.gflops:.0%}) "
            f"| {row.fp32_ms:.1f} ({row.fp32_ms / last.fp32_ms:.0%}) "
            f"| {row.int8_ms:.1f} ({row.int8_ms / last.int8_ms:.0%}) "
            f"| {row.miou:.2f} | {row.int8_miou:.2f} |"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    main()
