"""Make a checkpoint smaller, by depth or by channels, and measure it before and after."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from ..bundle.manifest import InputSpec
from ..data.datasets import Dataset, open_dataset
from ..data.description import LAYOUT
from ..data.preparation import RAW
from ..doctor import environment
from ..errors import CheckpointError, UsageError
from ..exporting.graphs.trace import trace
from ..fields import describe, described
from ..files import locked, sha256
from ..latency import median_latencies
from ..models import Card, Checkpoint, Preparation, SegmentationNet, save_checkpoint
from ..models.checkpoints import check_output
from ..models.depth import prune_depth, pruned_training
from ..models.reference import validate
from ..models.structure import structure_of
from ..models.summary import count
from ..runtime.backends.ort import OrtNet
from ..training.config import Progress
from .channels import prune_channels
from .finetune import finetune

FINETUNE_EPOCHS = 20
"""Epochs that a net pruned in channels is fine-tuned for, by default."""

Report = Callable[[str], None]


@dataclass(frozen=True)
class PruneOptions:
    """What to prune, and how: `depth` (see `prune_depth`) or `ratio` (see `prune_channels`).

    weights: see `Checkpoint.open`. data: `ratio` chooses the channels and fine-tunes with it.
    finetune_epochs: for `ratio` only; None for `FINETUNE_EPOCHS`. size: (height, width), pixels.
    preparation: of frames, for weights without a card.

    Example:
        >>> from edgeunet.pruning.prune import PruneOptions
        >>> PruneOptions("unetpp", depth=2).weights
        'cells'
    """

    model: str = field(metadata=describe("Variant; `edgeunet models` lists them.", metavar="NAME"))
    weights: str = described("cells", "Tag or checkpoint file.", metavar="TAG|FILE")
    raw: bool = described(False, RAW)
    depth: int | None = described(None, "Cut unetpp down to this depth.", ge=1, le=4)
    ratio: float | None = described(
        None, "Share of the channels to remove, 0 to 1.", metavar="SHARE"
    )
    data: Path | None = described(None, "Data set; --ratio needs it, --depth is measured on it.")
    layout: str | None = described(
        None, LAYOUT, metavar="NAME", shown_default="what the folder shows"
    )
    finetune_epochs: int | None = described(
        None,
        "Epochs of training after --ratio; 0 for none.",
        ge=0,
        shown_default=str(FINETUNE_EPOCHS),
    )
    size: tuple[int, int] | None = described(
        None, "Input size of the net.", shown_default="the checkpoint's"
    )
    preparation: Preparation | None = None

    def __post_init__(self) -> None:
        if (self.depth is None) == (self.ratio is None):
            given = "neither --depth nor --ratio" if self.depth is None else "--depth and --ratio"
            raise UsageError(f"got {given}; pass one: a depth of unetpp, or a share of channels.")
        if self.depth is not None and self.finetune_epochs is not None:
            raise UsageError(
                "--finetune-epochs is for --ratio only: the head that --depth keeps is trained "
                "already. Leave it out."
            )
        if self.layout is not None and self.data is None:
            raise UsageError(f"got --layout {self.layout} without --data. Pass the data set, too.")
        if self.ratio is not None and self.data is None:
            raise UsageError(
                "--ratio needs --data DIR: the loss on its training images tells which channels to "
                "remove, and the smaller net is fine-tuned on them."
            )


@dataclass(frozen=True)
class PruneRow:
    """A net before or after: `latency_ms` in ONNX Runtime FP32, `miou` in percent or None."""

    name: str
    parameters: int
    gflops: float
    latency_ms: float
    miou: float | None


@dataclass(frozen=True)
class PruneReport:
    """Rows `before`, `pruned` and, if it was, `fine-tuned`; latencies are from one run."""

    checkpoint: str
    model: str
    weights: str
    depth: int | None
    ratio: float | None
    input: tuple[int, int]
    data: str | None
    rows: tuple[PruneRow, ...]
    environment: dict[str, str]

    def table(self) -> str:
        """Aligned text for a terminal; percentages are relative to the net before."""
        what = f"depth {self.depth}" if self.ratio is None else f"channels by {self.ratio:g}"
        first = self.rows[0]
        lines = [
            f"{self.model} {self.weights}, {what}; input {self.input[0]}x{self.input[1]}, ONNX "
            f"Runtime FP32 on {self.environment['processor']}; mIoU on {self.data or 'no data'}",
            f"{'':<12}{'parameters':>18}{'GFLOPs':>15}{'latency ms':>15}{'mIoU %':>9}",
        ]
        for row in self.rows:
            miou = "-" if row.miou is None else f"{row.miou:.2f}"
            lines.append(
                f"{row.name:<12}{row.parameters:>12,}{row.parameters / first.parameters:>6.0%}"
                f"{row.gflops:>9.3f}{row.gflops / first.gflops:>6.0%}"
                f"{row.latency_ms:>9.2f}{row.latency_ms / first.latency_ms:>6.0%}{miou:>9}"
            )
        return "\n".join(lines)


@dataclass(frozen=True)
class _Stage:
    """A net before or after, with the card that it would be saved with."""

    name: str
    net: SegmentationNet
    card: Card


def prune(
    output: Path, options: PruneOptions, *, force: bool = False, report: Report = lambda step: None
) -> PruneReport:
    """Write a pruned checkpoint and its card, and report what it costs and saves.

    Fine-tuning works in `OUTPUT.finetune` beside the output. The same call resumes a run that was
    killed; the directory is removed when the checkpoint is written.

    Args:
        output: the checkpoint, NAME.safetensors; neither it nor its card NAME.json may exist
            unless `force`.
        report: called with each step's name.

    Raises:
        UsageError: a depth or ratio that the net cannot have. OutputExistsError: see `output`.
        OutputError: another run writes `output`.
        CheckpointError: weights that do not fit, or a run of another pruning beside the output.
        ShapeError: a size that the net cannot take. DatasetError: not a data set, or one of other
            classes. ExportError: the net has no graph.
    """
    check_output(output, force=force)
    with locked(output):
        return _prune(output, options, report)


def _prune(output: Path, options: PruneOptions, report: Report) -> PruneReport:
    """See `prune`, which checked and locked the output."""
    source = Checkpoint.open(
        options.weights,
        options.model,
        size=options.size,
        preparation=options.preparation,
        raw=options.raw,
    )
    card = source.card
    source.net.check_size(card.input.height, card.input.width)
    dataset = None if options.data is None else open_dataset(options.data, options.layout)
    if dataset is not None:
        dataset.check_classes(len(card.classes), "the weights have")
    stages = [_Stage("before", source.net, card)]
    if options.depth is not None:
        smaller, new = prune_depth(source.net, card, depth=options.depth, report=report)
        stages.append(_Stage("pruned", smaller, new))
    else:
        assert dataset is not None  # PruneOptions checked
        stages += _by_channels(output, options, source, dataset, report)
    rows, stages = _measured(stages, dataset, report)
    # In the precision of the source: FP16 weights stay FP16 and lose nothing.
    save_checkpoint(output, stages[-1].net, stages[-1].card, half=source.half)
    shutil.rmtree(_run_directory(output), ignore_errors=True)
    return PruneReport(
        checkpoint=str(output),
        model=options.model,
        weights=options.weights,
        depth=options.depth,
        ratio=options.ratio,
        input=(card.input.height, card.input.width),
        data=None if dataset is None else dataset.name,
        rows=tuple(rows),
        environment=environment(),
    )


def _run_directory(output: Path) -> Path:
    """Where fine-tuning keeps what it needs to resume."""
    return output.with_suffix(".finetune")


def _by_channels(
    output: Path, options: PruneOptions, source: Checkpoint, dataset: Dataset, report: Report
) -> list[_Stage]:
    """The net with fewer channels, and the fine-tuned one unless that takes 0 epochs."""
    epochs = FINETUNE_EPOCHS if options.finetune_epochs is None else options.finetune_epochs
    assert options.ratio is not None  # PruneOptions checked
    record = {"ratio": options.ratio, "weights": sha256(source.path)}
    if options.raw:
        record["raw"] = True
    run = _run_directory(output)
    start = run / "start.safetensors"
    if epochs and start.is_file():
        opened = Checkpoint.open(start)
        pruned = _Stage("pruned", opened.net, opened.card)
        if pruned.card.training["pruned"][-1] != record:
            raise CheckpointError(
                f"{run} belongs to another pruning, which was not finished. Remove it, or pass "
                "another output."
            )
        report(f"resuming in {run}")
    else:
        pruned = _fewer_channels(source, dataset, options.ratio, record, report)
        if epochs:
            save_checkpoint(start, pruned.net, pruned.card)
    if not epochs:
        return [pruned]
    report(f"fine-tuning, {epochs} epochs")
    tuned = finetune(
        Checkpoint.open(start), dataset, run, epochs=epochs, report=_epochs_only(epochs, report)
    )
    return [pruned, _Stage("fine-tuned", tuned.net, tuned.card)]


def _fewer_channels(
    source: Checkpoint, dataset: Dataset, ratio: float, record: dict[str, Any], report: Report
) -> _Stage:
    card = source.card
    report("choosing channels by the loss on training images")
    pruned = prune_channels(source.net, dataset, ratio=ratio, spec=card.input)
    if card.gate is not None:
        report("the gate's thresholds are dropped: they were calibrated on the unpruned net")
    new = replace(
        card,
        metrics={},
        training=pruned_training(card, record),
        structure=structure_of(pruned),
        gate=None,
    )
    return _Stage("pruned", pruned, new)


def _epochs_only(epochs: int, report: Report) -> Callable[[Progress], None]:
    """Report validated epochs, not steps."""

    def tell(news: Progress) -> None:
        if news.miou is not None:
            report(f"epoch {news.epoch} of {epochs}: loss {news.loss:.3f}, mIoU {news.miou:.2f} %")

    return tell


def _measured(
    stages: list[_Stage], dataset: Dataset | None, report: Report
) -> tuple[list[PruneRow], list[_Stage]]:
    """A row for each stage, and the stages with the measured metrics in their cards."""
    spec = stages[0].card.input
    report("measuring")
    latencies = _latencies(stages, spec)
    rows, scored = [], []
    for stage in stages:
        cost = count(stage.net, height=spec.height, width=spec.width, channels=len(spec.channels))
        metrics = {} if dataset is None else validate(stage.net, dataset, spec=spec)
        scored.append(replace(stage, card=replace(stage.card, metrics=metrics)))
        rows.append(
            PruneRow(
                stage.name,
                cost.parameters,
                round(cost.gflops, 4),
                round(latencies[stage.name], 3),
                metrics.get("miou"),
            )
        )
    if dataset is not None and (left_out := scored[0].card.metrics.get("left_out")):
        report(f"mIoU without {', '.join(left_out)}: no label in the val split has them")
    return rows, scored


def _latencies(stages: list[_Stage], spec: InputSpec) -> dict[str, float]:
    """Median milliseconds of one image by stage, in ONNX Runtime with `export`'s graphs."""
    image = np.zeros((1, len(spec.channels), spec.height, spec.width), np.float32)
    with TemporaryDirectory(prefix="edgeunet-prune-") as folder:
        calls = {}
        for stage in stages:
            path = Path(folder) / f"{stage.name}.onnx"
            trace(
                stage.net, path, height=spec.height, width=spec.width, channels=len(spec.channels)
            )
            calls[stage.name] = partial(OrtNet(path).run, image)
        return median_latencies(calls)
