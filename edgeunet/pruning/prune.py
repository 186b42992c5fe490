"""Make a checkpoint smaller, by depth or channels, and measure it before and after."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from ..data.datasets import Dataset, open_dataset
from ..data.description import LAYOUT
from ..data.preparation import RAW
from ..doctor import environment
from ..errors import UsageError
from ..fields import check, describe, described
from ..files import locked, sha256
from ..latency import median_latencies
from ..models import Card, Checkpoint, Preparation, SegmentationNet, save_checkpoint
from ..models.checkpoints import check_output, has_card
from ..models.depth import prune_depth
from ..models.lineage import lineage, saw_val
from ..models.reference import validate
from ..models.summary import count
from ..training.teacher import open_teacher
from .channels import check_same_pruning, prune_channels, pruned_card
from .finetune import Tuning
from .report import LatencyRounds, PruneReport, PruneRow
from .rounds import Fewer, ToLatency
from .timing import REFERENCE, Timer

FINETUNE_EPOCHS = 20
"""Epochs that a net pruned in channels is fine-tuned for, by default."""

UNPRUNED = "unpruned.safetensors"
"""The net before, as the teacher of the smaller one."""

Report = Callable[[str], None]


@dataclass(frozen=True)
class PruneOptions:
    """What to prune, and how: `depth`, `ratio` or `to_latency`.

    See `prune_depth`, `prune_channels` and `ToLatency`.

    weights: see `Checkpoint.open`. data: channels are chosen and fine-tuned with it.
    finetune_epochs: of what is pruned in channels; None for `FINETUNE_EPOCHS`. teacher: of the
    fine-tuning, see `open_teacher`. size: (height, width), pixels. preparation: of frames, for
    weights without a card.

    Example:
        >>> from edgeunet.pruning.prune import PruneOptions
        >>> PruneOptions("unetpp", depth=2).weights
        'cells'
    """

    model: str = field(metadata=describe("Variant; `edgeunet models` lists them.", metavar="NAME"))
    weights: str = described("cells", "Tag, checkpoint or training run.", metavar="TAG|FILE|RUN")
    raw: bool = described(False, RAW)
    depth: int | None = described(None, "Cut unetpp down to this depth.", ge=1, le=4)
    ratio: float | None = described(
        None, "Share of the channels to remove, 0 to 1.", metavar="SHARE"
    )
    to_latency: float | None = described(
        None,
        "Share of the latency to keep, 0 to 1, as measured on the fastest engine here.",
        gt=0,
        lt=1,
        metavar="SHARE",
    )
    data: Path | None = described(
        None, "Data set; --ratio and --to-latency need it, --depth is measured on it."
    )
    layout: str | None = described(
        None, LAYOUT, metavar="NAME", shown_default="what the folder shows"
    )
    finetune_epochs: int | None = described(
        None,
        "Epochs of training after --ratio or --to-latency; 0 for none.",
        ge=0,
        shown_default=str(FINETUNE_EPOCHS),
    )
    teacher: str | None = described(
        None,
        "Trained net to learn from in fine-tuning.",
        metavar="MODEL:TAG|FILE|BUNDLE",
        shown_default="the unpruned net after --to-latency, none after --ratio",
    )
    size: tuple[int, int] | None = described(
        None, "Input size of the net.", shown_default="the checkpoint's"
    )
    preparation: Preparation | None = None

    def __post_init__(self) -> None:
        check(self)
        ways = {"--depth": self.depth, "--ratio": self.ratio, "--to-latency": self.to_latency}
        given = [name for name, value in ways.items() if value is not None]
        if len(given) != 1:
            raise UsageError(
                f"got {' and '.join(given) or 'none of --depth, --ratio and --to-latency'}; pass "
                "one: a depth of unetpp, a share of channels, or a share of the latency."
            )
        if self.depth is not None:
            self._check_depth()
        if self.layout is not None and self.data is None:
            raise UsageError(f"got --layout {self.layout} without --data. Pass the data set, too.")
        if self.depth is None and self.data is None:
            raise UsageError(
                f"{given[0]} needs --data DIR: the loss on its training images tells which "
                "channels to remove, and the smaller net is fine-tuned on them."
            )
        if self.teacher is not None and self.finetune_epochs == 0:
            raise UsageError(
                "got --teacher with --finetune-epochs 0; a teacher is for the fine-tuning. Leave "
                "one of them out."
            )

    def _check_depth(self) -> None:
        """Refuse what is for the fine-tuning."""
        ways = {"--finetune-epochs": self.finetune_epochs, "--teacher": self.teacher}
        for name, value in ways.items():
            if value is not None:
                raise UsageError(
                    f"{name} is for --ratio and --to-latency only: the head that --depth keeps is "
                    "trained already. Leave it out."
                )

    @property
    def epochs(self) -> int:
        """Of fine-tuning what is pruned in channels."""
        return FINETUNE_EPOCHS if self.finetune_epochs is None else self.finetune_epochs

    @property
    def taught_by(self) -> str | None:
        """The teacher, in words; None if there is none."""
        if self.teacher is None and self.to_latency is not None and self.epochs:
            return "the unpruned net"
        return self.teacher


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
        UsageError: a depth, ratio or latency that the net cannot have. OutputExistsError: see
            `output`.
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
        dataset.check_classes(card.classes, "the weights have")
    stages, fewer = [_Stage("before", source.net, card)], None
    if options.depth is not None:
        smaller, new = prune_depth(source.net, card, depth=options.depth, report=report)
        stages.append(_Stage("pruned", smaller, new))
    else:
        assert dataset is not None  # PruneOptions checked
        channels = _Channels.of(output, options, source, dataset, report)
        if options.ratio is not None:
            pruned = channels.by_ratio(options.ratio)
        else:
            assert options.to_latency is not None
            fewer = channels.to_latency(options.to_latency)
            pruned = fewer.checkpoint
        stages += channels.stages(pruned)
    timer = Timer(REFERENCE, card.input) if fewer is None else fewer.timer
    rows, stages = _measured(stages, timer, dataset, report)
    seen = dataset is not None and saw_val(lineage(source), dataset.name)
    # In the precision of the source: FP16 weights stay FP16 and lose nothing.
    last = replace(stages[-1].card, metrics={}) if seen else stages[-1].card
    save_checkpoint(output, stages[-1].net, last, half=source.half)
    shutil.rmtree(_run_directory(output), ignore_errors=True)
    return PruneReport(
        checkpoint=str(output),
        model=options.model,
        weights=options.weights,
        depth=options.depth,
        ratio=options.ratio,
        to_latency=None if fewer is None else _reached(options, rows, fewer),
        input=(card.input.height, card.input.width),
        data=None if dataset is None else dataset.name,
        teacher=options.taught_by,
        engine=timer.engine.backend,
        precision=timer.engine.precision,
        val_seen=seen,
        rows=tuple(rows),
        environment=environment(),
    )


def _run_directory(output: Path) -> Path:
    """Where pruning in channels keeps what it needs to resume."""
    return output.with_suffix(".finetune")


@dataclass(frozen=True)
class _Channels:
    """A pruning in channels. run: its directory. record: what a card and a run keep of it."""

    source: Checkpoint
    dataset: Dataset
    run: Path
    record: dict[str, Any]
    tuning: Tuning

    @classmethod
    def of(
        cls,
        output: Path,
        options: PruneOptions,
        source: Checkpoint,
        dataset: Dataset,
        report: Report,
    ) -> _Channels:
        if options.epochs:  # it is trained as a net of these data, so its classes are theirs
            card = replace(source.card, classes=dataset.classes, palette=dataset.palette)
            source = replace(source, card=card)
        record: dict[str, Any] = {
            "weights": sha256(source.path),
            "size": [source.card.input.height, source.card.input.width],
            "images": dataset.digest,
            "finetune_epochs": options.epochs,
        }
        if options.raw:
            record["raw"] = True
        run = _run_directory(output)
        teacher: str | Path | None = options.teacher
        if options.teacher is not None:
            record["teacher"] = open_teacher(options.teacher, dataset, source.card.input).record
        elif options.to_latency is not None:
            teacher = run / UNPRUNED
        return cls(source, dataset, run, record, Tuning(dataset, options.epochs, teacher, report))

    def by_ratio(self, ratio: float) -> Checkpoint:
        """The net with fewer channels, or the one that an earlier run left."""
        source, report, start = self.source, self.tuning.report, self.run / "start.safetensors"
        record = {"ratio": ratio, **self.record}
        if self.tuning.epochs and has_card(start):
            opened = Checkpoint.open(start)
            check_same_pruning(self.run, opened.card.training["pruned"][-1], record)
            report(f"resuming in {self.run}")
            return opened
        report("choosing channels by the loss on training images")
        pruned = prune_channels(source.net, self.dataset, ratio=ratio, spec=source.card.input)
        self._tell_of_gate()
        card = pruned_card(source.card, pruned, record)
        if not self.tuning.epochs:
            return replace(source, net=pruned, card=card)
        save_checkpoint(start, pruned, card)
        return Checkpoint.open(start)

    def to_latency(self, target: float) -> Fewer:
        """The net after its rounds, and what it was timed with."""
        found = ToLatency(
            self.source,
            self.dataset,
            self.run,
            target,
            {"latency": target, **self.record},
            self._tune_briefly if self.tuning.epochs else None,
            self.tuning.report,
        ).run()
        self._tell_of_gate()
        return found

    def stages(self, pruned: Checkpoint) -> list[_Stage]:
        """The pruned net, and the fine-tuned one unless that takes 0 epochs."""
        found = [_Stage("pruned", pruned.net, pruned.card)]
        if self.tuning.epochs:
            self._save_teacher()
            tuned = self.tuning(pruned, self.run)
            found.append(_Stage("fine-tuned", tuned.net, tuned.card))
        return found

    def _tune_briefly(self, start: Checkpoint, run: Path) -> Checkpoint:
        self._save_teacher()
        return self.tuning.briefly(start, run)

    def _save_teacher(self) -> None:
        """Write the unpruned net for the training, if it is the teacher."""
        path, source = self.run / UNPRUNED, self.source
        if self.tuning.teacher == path and not has_card(path):
            save_checkpoint(path, source.net, source.card, half=source.half)

    def _tell_of_gate(self) -> None:
        if self.source.card.gate is not None:
            self.tuning.report(
                "the gate's thresholds are dropped: they were calibrated on the unpruned net"
            )


def _reached(options: PruneOptions, rows: list[PruneRow], fewer: Fewer) -> LatencyRounds:
    assert options.to_latency is not None
    share = rows[-1].latency_ms / rows[0].latency_ms
    return LatencyRounds(options.to_latency, round(share, 4), fewer.rounds)


def _measured(
    stages: list[_Stage], timer: Timer, dataset: Dataset | None, report: Report
) -> tuple[list[PruneRow], list[_Stage]]:
    """A row for each stage, and the stages with the measured metrics in their cards."""
    spec = stages[0].card.input
    report("measuring")
    latencies = _latencies(stages, timer)
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


def _latencies(stages: list[_Stage], timer: Timer) -> dict[str, float]:
    """Median milliseconds of one image by stage."""
    with ExitStack() as stack:
        calls = {stage.name: stack.enter_context(timer.opened(stage.net)) for stage in stages}
        return median_latencies(calls)
