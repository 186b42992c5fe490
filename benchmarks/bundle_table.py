"""Cost and accuracy of several bundles in one run, for `depths.py` and `variants.py`."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from itertools import cycle
from pathlib import Path
from tempfile import TemporaryDirectory

import torch

from edgeunet import ExportOptions, export_bundle
from edgeunet.bundle.bundle import CHECKPOINT_NAME, open_bundle
from edgeunet.bundle.manifest import Flavour
from edgeunet.doctor import environment
from edgeunet.latency import median_latencies
from edgeunet.models.checkpoints import Checkpoint
from edgeunet.models.summary import count
from edgeunet.parity import ParityReport
from edgeunet.runtime.backends.base import NetBackend
from edgeunet.runtime.backends.ort import open_flavour

FLAVOURS: tuple[Flavour, ...] = ("fp32", "int8.cpu")


@dataclass(frozen=True)
class Row:
    """One bundle; latencies are of the net alone on one image, mIoU and agreement in percent."""

    name: str
    width: str
    input: str
    parameters: int
    gflops: float
    fp32_ms: float
    int8_ms: float
    miou: float
    int8_miou: float
    int8_agreement: float


@dataclass(frozen=True)
class Table:
    """Rows of one run on one machine."""

    title: str
    threads: int
    rows: tuple[Row, ...]
    environment: dict[str, str]

    def json(self) -> str:
        """Indented JSON."""
        return json.dumps(asdict(self), indent=1)

    def markdown(self, *, relative: bool) -> str:
        """Markdown; `relative` adds percentages of the last row."""
        machine, last = self.environment, self.rows[-1]

        def cell(value: float, whole: float, digits: int) -> str:
            share = f" ({value / whole:.0%})" if relative else ""
            return f"{value:,.{digits}f}{share}"

        lines = [
            f"{self.title}, batch 1, {self.threads} threads, {machine['processor']}, onnxruntime "
            f"{machine['onnxruntime']}",
            "",
            "| | width | input | parameters | GFLOPs | FP32 ms | INT8 ms | mIoU | mIoU INT8 "
            "| INT8 agrees |",
            "|---|---|---|---|---|---|---|---|---|---|",
        ]
        for row in self.rows:
            lines.append(
                f"| {row.name} | {row.width} | {row.input} "
                f"| {cell(row.parameters, last.parameters, 0)} "
                f"| {cell(row.gflops, last.gflops, 2)} | {cell(row.fp32_ms, last.fp32_ms, 1)} "
                f"| {cell(row.int8_ms, last.int8_ms, 1)} | {row.miou:.2f} | {row.int8_miou:.2f} "
                f"| {row.int8_agreement:.2f} % |"
            )
        return "\n".join(lines)


def measure_bundles(
    options: Mapping[str, ExportOptions], *, title: str, threads: int, rounds: int
) -> Table:
    """Export each INT8 bundle, assert its parity, and time FP32 and INT8 of all in turns."""
    torch.set_num_threads(threads)
    with TemporaryDirectory(prefix="edgeunet-bundles-") as folder, ExitStack() as stack:
        bundles = {name: Path(folder) / name.replace(" ", "-") for name in options}
        reports = {name: _export(bundles[name], options[name]) for name in options}
        calls = {}
        for name, bundle in bundles.items():
            for flavour in FLAVOURS:
                backend = open_flavour(open_bundle(bundle), flavour, threads=threads)
                calls[f"{name} {flavour}"] = _net_alone(stack.enter_context(backend))
        latencies = median_latencies(calls, rounds=rounds)
        rows = [_row(name, bundles[name], reports[name], latencies) for name in options]
    return Table(title, threads, tuple(rows), environment())


def _export(bundle: Path, options: ExportOptions) -> ParityReport:
    """Its parity; INT8 beyond the allowed drop raises in the export, FP32 is asserted here."""
    parity = export_bundle(bundle, options)
    fp32 = next(stage for stage in parity.stages if stage.name == "fp32")
    assert fp32.ok, f"{bundle.name}: the FP32 graph agrees on {fp32.agreement:.3%} of the pixels"
    return parity


def _net_alone(backend: NetBackend) -> Callable[[], object]:
    """A call of the net on the next of the golden frames, without pre- and post-processing."""
    frames = backend.bundle.golden().frames
    images = cycle([backend.preprocess([frame]) for frame in frames])
    return lambda: backend.net.infer(next(images))


def _row(name: str, bundle: Path, parity: ParityReport, latencies: Mapping[str, float]) -> Row:
    opened = Checkpoint.open(bundle / CHECKPOINT_NAME)
    net, card = opened.net, opened.card
    spec = card.input
    cost = count(net, height=spec.height, width=spec.width, channels=len(spec.channels))
    return Row(
        name=name,
        width=str(card.arguments.get("width", "default")),
        input=f"{spec.height}x{spec.width}",
        parameters=cost.parameters,
        gflops=cost.gflops,
        fp32_ms=latencies[f"{name} fp32"],
        int8_ms=latencies[f"{name} int8.cpu"],
        miou=parity.reference_miou,
        int8_miou=parity.candidate.miou,
        int8_agreement=100 * parity.candidate.agreement,
    )
