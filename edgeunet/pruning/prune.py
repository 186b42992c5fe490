"""Prune a checkpoint by depth or by channels, and measure it before and after."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import onnxruntime

from ..bundle.manifest import InputSpec
from ..bundle.schema import encode
from ..data.datasets import Dataset, open_dataset
from ..doctor import environment
from ..errors import CheckpointError, DatasetError, UsageError
from ..export.graphs.trace import trace
from ..files import sha256
from ..latency import median_latencies
from ..models import SegmentationNet
from ..models.checkpoints import (
    Card,
    check_output,
    find_weights,
    load_checkpoint,
    save_checkpoint,
    stored_as_half,
)
from ..models.depth import prune_depth, pruned_training
from ..models.reference import validate
from ..models.structure import structure_of
from ..models.summary import count
from ..training.config import Progress
from .channels import prune_channels
from .finetune import finetune

FINETUNE_EPOCHS = 20
"""Default number of epochs to train a net whose channels were pruned."""

Report = Callable[[str], None]


@dataclass(frozen=True)
class PruneOptions:
    """What to prune, and how: by `depth` (see `prune_depth`) or `ratio` (see `prune_channels`).

    weights: a tag of the package's weights or a file. data: data set to measure on; `ratio` also
    chooses the channels and trains with it. finetune_epochs: for `ratio`; 0 for none, None for the
    default.
    """

    model: str
    weights: str = "cells"
    depth: int | None = None
    ratio: float | None = None
    data: Path | None = None
    finetune_epochs: int | None = None

    def __post_init__(self) -> None:
        if (self.depth is None) == (self.ratio is None):
            given = "neither --depth nor --ratio" if self.depth is None else "--depth and --ratio"
            raise UsageError(
                f"got {given}; expected one of them: a depth of unetpp, or a share of channels."
            )
        if self.depth is not None and self.finetune_epochs is not None:
            raise UsageError(
                "got --finetune-epochs with --depth, but a head of U-Net++ is already trained and "
                "needs no fine-tuning. Leave it out."
            )
        if self.ratio is not None and self.data is None:
            raise UsageError(
                "got --ratio without --data, but the channels to remove are chosen by the loss on "
                "training images, and the net is fine-tuned afterwards. Pass --data DIR."
            )


@dataclass(frozen=True)
class PruneRow:
    """Measurements of one net.

    latency_ms: of ONNX Runtime FP32. miou: in percent, None without data.
    """

    name: str
    parameters: int
    gflops: float
    latency_ms: float
    miou: float | None


@dataclass(frozen=True)
class PruneReport:
    """Rows `before`, `pruned` and, if done, `fine-tuned`, whose latencies come from one run."""

    checkpoint: str
    model: str
    weights: str
    depth: int | None
    ratio: float | None
    input: tuple[int, int]
    data: str | None
    rows: tuple[PruneRow, ...]
    environment: dict[str, str]

    def to_json(self) -> dict[str, object]:
        """JSON-ready form."""
        data: dict[str, object] = encode(self)
        return data

    def table(self) -> str:
        """Aligned text for a terminal, with percentages of the net before."""
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
    """A net, with the card to save it with."""

    name: str
    net: SegmentationNet
    card: Card


def prune(
    output: Path, options: PruneOptions, *, force: bool = False, report: Report = lambda step: None
) -> PruneReport:
    """Write a pruned checkpoint and its card, and report size, speed and accuracy.

    Fine-tuning works in `OUTPUT.finetune` beside the output. The same call resumes an interrupted
    run. The directory is removed once the checkpoint is written.

    Args:
        output: the checkpoint, NAME.safetensors. Neither it nor its card NAME.json may exist unless
            `force`.
        report: called with the name of each step.

    Raises:
        UsageError: a depth or ratio that the net cannot have. OutputExistsError: see `output`.
        CheckpointError: weights that do not fit, or a run of another pruning beside the output.
        DatasetError: not a data set, or one with other classes. ExportError: a net that cannot be
            traced.
    """
    check_output(output, force=force)
    source = find_weights(options.model, options.weights)
    net, card = load_checkpoint(source)
    if card.model != options.model:
        raise CheckpointError(
            f"{source} is a checkpoint of {card.model}; {options.model} was asked for."
        )
    dataset = None if options.data is None else _open(options.data, card)
    stages = [_Stage("before", net, card)]
    if options.depth is not None:
        smaller, new = prune_depth(net, card, depth=options.depth, report=report)
        stages.append(_Stage("pruned", smaller, new))
    else:
        assert dataset is not None  # PruneOptions checked
        stages += _by_channels(output, options, source, dataset, report)
    rows, stages = _measured(stages, dataset, report)
    # FP16 weights stay FP16, without loss.
    half = stored_as_half(source)
    save_checkpoint(output, stages[-1].net, stages[-1].card, half=half)
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


def _open(data: Path, card: Card) -> Dataset:
    dataset = open_dataset(data)
    if len(dataset.classes) != len(card.classes):
        raise DatasetError(
            f"{data} has {len(dataset.classes)} classes, the weights have {len(card.classes)}."
        )
    return dataset


def _run_directory(output: Path) -> Path:
    """Directory from which fine-tuning resumes after a kill."""
    return output.with_suffix(".finetune")


def _by_channels(
    output: Path, options: PruneOptions, source: Path, dataset: Dataset, report: Report
) -> list[_Stage]:
    """The net with fewer channels, and the fine-tuned net if requested."""
    epochs = FINETUNE_EPOCHS if options.finetune_epochs is None else options.finetune_epochs
    assert options.ratio is not None  # `prune` checked
    record = {"ratio": options.ratio, "weights": sha256(source)}
    run = _run_directory(output)
    start = run / "start.safetensors"
    if epochs and start.is_file():
        pruned = _Stage("pruned", *load_checkpoint(start))
        if pruned.card.training["pruned"][-1] != record:
            raise CheckpointError(
                f"{run} belongs to another pruning that did not finish. Remove it, or pass another "
                "output."
            )
        report(f"resuming in {run}")
    else:
        pruned = _fewer_channels(source, dataset, options.ratio, record, report)
        if epochs:
            save_checkpoint(start, pruned.net, pruned.card)
    if not epochs:
        return [pruned]
    report(f"fine-tuning, {epochs} epochs")
    tuned, card = finetune(start, dataset, run, epochs=epochs, report=_by_epoch(epochs, report))
    return [pruned, _Stage("fine-tuned", tuned, card)]


def _fewer_channels(
    source: Path, dataset: Dataset, ratio: float, record: dict[str, Any], report: Report
) -> _Stage:
    net, card = load_checkpoint(source)
    report("choosing channels by the loss on training images")
    pruned = prune_channels(net, dataset, ratio=ratio, spec=card.input)
    if card.gate is not None:
        report("the gate's thresholds are dropped: they belong to the net before pruning")
    new = replace(
        card,
        metrics={},
        training=pruned_training(card, record),
        structure=structure_of(pruned),
        gate=None,
    )
    return _Stage("pruned", pruned, new)


def _by_epoch(epochs: int, report: Report) -> Callable[[Progress], None]:
    """Report validated epochs instead of steps."""

    def report_epoch(now: Progress) -> None:
        if now.miou is not None:
            report(f"epoch {now.epoch} of {epochs}: loss {now.loss:.3f}, mIoU {now.miou:.2f} %")

    return report_epoch


def _measured(
    stages: list[_Stage], dataset: Dataset | None, report: Report
) -> tuple[list[PruneRow], list[_Stage]]:
    """A row per stage, and the stages with the measured metrics in their cards."""
    spec = stages[0].card.input
    report("measuring")
    latencies = _latencies(stages, spec)
    rows, scored = [], []
    for stage in stages:
        cost = count(stage.net, height=spec.height, width=spec.width, channels=spec.channels)
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
    return rows, scored


def _latencies(stages: list[_Stage], spec: InputSpec) -> dict[str, float]:
    """Median milliseconds per image by stage, in ONNX Runtime on the graph that `export` writes."""
    feed = {"image": np.zeros((1, spec.channels, spec.height, spec.width), np.float32)}
    with TemporaryDirectory(prefix="edgeunet-prune-") as folder:
        calls = {}
        for stage in stages:
            path = Path(folder) / f"{stage.name}.onnx"
            trace(stage.net, path, height=spec.height, width=spec.width, channels=spec.channels)
            session = onnxruntime.InferenceSession(path)
            calls[stage.name] = lambda session=session: session.run(None, feed)
        return median_latencies(calls)
