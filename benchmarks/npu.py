"""What nets lose on the NPUs of two makers, by the makers' own simulators, as Markdown.

    python benchmarks/npu.py [--only unet] [--frames 4] [BUNDLE ...]

Without bundles, the six variants with their weights `cells` are exported to INT8 first. Each net is
compiled for Hexagon v73 and run in Qualcomm's emulator, and for the RK3588 in Rockchip's
simulator. Masks and mIoU are compared with PyTorch's on labelled procedural frames, or on golden
frames of a bundle of other classes. Nothing here has run on a board, and how long a simulator takes
says nothing of one.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory

import click

from edgeunet import ExportOptions, export_bundle, list_models
from edgeunet.bundle.bundle import REPORT_NAMES, Bundle, open_bundle
from edgeunet.bundle.schema import load_json
from edgeunet.data import cells
from edgeunet.data.fit import Fit
from edgeunet.errors import EdgeUNetError
from edgeunet.exporting.deploy import DeployOptions, deploy, open_deployed
from edgeunet.exporting.npu.hexagon import compile_graph
from edgeunet.parity import golden_samples, measure
from edgeunet.parity.report import StageParity
from edgeunet.runtime.backends import Backend
from edgeunet.runtime.options import LoadOptions
from edgeunet.runtime.sources.labelled import LabelledFrame

GENERATION = "v73"
SEED = 2  # of frames that no net was calibrated on
HEADER = (
    "| net | frames | Hexagon | | 16 bits | MB | s | RK3588 | | MB |",
    "|---|---|---|---|---|---|---|---|---|---|",
)


@click.command()
@click.argument("bundles", nargs=-1, type=click.Path(path_type=Path, exists=True))
@click.option("--only", help="One variant instead of all.")
@click.option("--frames", default=4, show_default=True, help="Frames to compare.")
def main(bundles: tuple[Path, ...], only: str | None, frames: int) -> None:
    """Export, compile, simulate, print."""
    click.echo("\n".join(HEADER))
    for path in bundles:
        click.echo(_row(path, frames))
    for model in list_models() if not bundles else ():
        if only in (None, model):
            with TemporaryDirectory(prefix="edgeunet-npu-") as folder:
                path = Path(folder) / model
                export_bundle(path, ExportOptions(model, precision="int8"))
                click.echo(_row(path, frames))


def _row(path: Path, frames: int) -> str:
    """A line of the table; what fails says why."""
    bundle = open_bundle(path)
    samples = list(islice(_samples(bundle), frames))
    found = [f"`{path.name}`", str(len(samples))]
    try:
        found += _on_hexagon(bundle, samples)
    except EdgeUNetError as error:
        found += [str(error), "", "", "", ""]
    try:
        found += _on_rockchip(bundle, samples)
    except EdgeUNetError as error:
        found += [str(error), "", ""]
    return f"| {' | '.join(found)} |"


def _samples(bundle: Bundle) -> Iterator[LabelledFrame]:
    if bundle.manifest.classes != cells.CLASSES:
        return golden_samples(bundle)
    spec = bundle.manifest.input
    fit = Fit(spec)
    drawn = cells.snapshots(24, height=spec.height, width=spec.width, seed=SEED)
    return (
        LabelledFrame(f"procedural {index}", fit(frame.image), frame.mask)
        for index, frame in enumerate(drawn)
    )


def _on_hexagon(bundle: Bundle, samples: list[LabelledFrame]) -> list[str]:
    graph = bundle.file(bundle.model_path("int8.qnn")).read()
    started = time.perf_counter()
    compiled = compile_graph(graph, GENERATION)
    seconds = time.perf_counter() - started
    options = LoadOptions(provider="qnn")
    report, _ = measure(bundle, samples, data="frames", backend="onnxruntime", options=options)
    return [
        *_lost(report.candidate),
        str(len(load_json(bundle.root / REPORT_NAMES[0])["fallbacks"])),
        f"{len(compiled) / 1e6:.1f}",
        f"{seconds:.1f}",
    ]


def _on_rockchip(bundle: Bundle, samples: list[LabelledFrame]) -> list[str]:
    with TemporaryDirectory(prefix="edgeunet-npu-") as folder, ExitStack() as stack:
        output = Path(folder) / "out"
        deploy(bundle.root, "rockchip", output, DeployOptions(target="rk3588"))
        name, backend = open_deployed(bundle, output, stack)
        assert isinstance(backend, Backend)
        report, _ = measure(bundle, samples, data="frames", deployed={name: backend})
        size = (output / "bundle" / "model.rknn").stat().st_size
    return [*_lost(report.stages[-1]), f"{size / 1e6:.1f}"]


def _lost(stage: StageParity) -> list[str]:
    drop = "" if stage.drop is None else f"{stage.drop:+.2f}"
    return [f"{stage.agreement:.2%}", drop]


if __name__ == "__main__":
    main()
