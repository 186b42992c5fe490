"""What every graph of every committed weights loses against PyTorch, as Markdown.

    python benchmarks/accuracy.py [--data ../shared/data] [--only mobile_unet.camvid] [--json]

Each of the package's weights is exported to an INT8 bundle, calibrated on the training images and
judged on the validation split of its data set (`cells`: on procedural frames). The CPU's graphs run
as they are deployed. Those for TensorRT are simulated: ONNX Runtime computes them node by node as
they are written, so their rounding is measured and no GPU has seen them. The export may lose what
`PROMISED` allows INT8: where it must, it gives layers back to float, and the table says how many.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import click

from edgeunet import ExportOptions, export_bundle, list_models
from edgeunet.catalogue import find_weights, list_weights
from edgeunet.models.checkpoints import read_card
from edgeunet.parity import ParityReport
from edgeunet.parity.report import StageParity

STAGES = {
    "fp16": "FP16",
    "int8": "INT8 on the CPU",
    "trt int8": "INT8 for TensorRT",
    "trt int8.fp16": "INT8 over FP16 for TensorRT",
    "openvino int8": "INT8 for OpenVINO",
    "qnn int8": "INT8 for QNN",
}
PROMISED = {"fp16": (0.999, 0.05), "int8": (0.99, 0.3)}
"""Share of the pixels that must agree, and points of mIoU that may be lost."""

# Weights that know fewer classes than their data set.
MERGED = {
    "magnetic_tile": {"defect": ["blowhole", "break", "crack", "fray", "uneven"]},
}


@dataclass(frozen=True)
class Row:
    """One of the weights.

    reference: PyTorch's mIoU, percent. floats: layers that fell back. stages: by name of `STAGES`.
    """

    name: str
    frames: int
    reference: float
    floats: int
    stages: dict[str, StageParity]

    def markdown(self) -> str:
        """Agreement and points lost, stage by stage; what breaks a promise is in bold."""
        cells = (_cell(name, stage) for name, stage in self.stages.items())
        head = f"| {self.name} | {self.frames} | {self.reference:.2f} | {self.floats} |"
        return f"{head} {' | '.join(cells)} |"


@click.command()
@click.option("--data", type=click.Path(path_type=Path), default=Path("../shared/data"))
@click.option("--only", help="MODEL.TAG instead of all.")
@click.option("--json", "as_json", is_flag=True)
def main(data: Path, only: str | None, as_json: bool) -> None:
    """Export, measure, print."""
    rows = []
    for model in list_models():
        for tag in list_weights(model):
            if only in (None, f"{model}.{tag}"):
                rows.append(_measure(model, tag, data))
                click.echo(rows[-1].markdown(), err=True)
    if as_json:
        click.echo(json.dumps([asdict(row) for row in rows], indent=1))
        return
    click.echo(f"| weights | frames | PyTorch mIoU | in float | {' | '.join(STAGES.values())} |")
    click.echo("|---" * (4 + len(STAGES)) + "|")
    for row in rows:
        click.echo(row.markdown())


def _measure(model: str, tag: str, data: Path) -> Row:
    with TemporaryDirectory(prefix="edgeunet-accuracy-") as folder:
        known = read_card(find_weights(model, tag)).data
        source = None if known == "cells" else source_of(known, data, Path(folder))
        options = ExportOptions(
            model, tag, "int8", calib=source, data=source, max_iou_drop=PROMISED["int8"][1]
        )
        report = export_bundle(Path(folder) / "bundle", options)
    return Row(
        f"`{model}` {tag}",
        report.frames,
        report.reference_miou,
        len(report.fallbacks),
        _stages(report),
    )


def source_of(name: str, data: Path, folder: Path) -> Path:
    """The data set that weights know by its name, or a view of it."""
    if name not in MERGED:
        return data / name
    view = {"source": str((data / name).resolve()), "merge": MERGED[name]}
    (folder / "dataset.json").write_text(json.dumps(view))
    return folder


def _stages(report: ParityReport) -> dict[str, StageParity]:
    found = {stage.name: stage for stage in report.stages}
    return {name: found[name] for name in STAGES}


def _cell(name: str, stage: StageParity) -> str:
    agreement, drop = PROMISED[name.split()[-1].split(".")[0]]
    text = f"{stage.agreement:.3%}, {stage.drop:+.2f}"
    return text if stage.agreement >= agreement and stage.drop <= drop else f"**{text}**"


if __name__ == "__main__":
    main()
