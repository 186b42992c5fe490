"""Train a variant on a data set or on procedural frames."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from ..bundle.manifest import Filter, Resize
from ..catalogue import RUN_WEIGHTS
from ..data.check import Contents
from ..data.datasets import Dataset
from ..data.folds import Fold, check_copies, split_folds
from ..errors import UsageError
from ..gate.calibrate import closed_at_most
from ..models import Card, Checkpoint
from ..models.lineage import data_of, lineage
from .callbacks import Callback
from .config import Progress, TrainConfig
from .cross_validation import (
    DIVISION,
    FOLDS,
    CrossValidation,
    Report,
    check_classes,
    check_unseen,
    cross_fit,
    cross_validate,
    in_turn,
    keep_division,
    teacher_of,
    tell_of_kept_gate,
)
from .gate_stage import check_gate_stage
from .group import Group, leading
from .loop import Trainer
from .page import Page
from .recipe import Recipe, check_lessons, open_recipe, tell_of_size
from .unlabelled import Unlabelled


def train(
    model: str,
    data: str | Path | Dataset,
    output: Path,
    *,
    config: TrainConfig,
    size: tuple[int, int] | None = None,
    channels: Sequence[str] | None = None,
    levels: Sequence[float] | None = None,
    resize: Resize | None = None,
    fill: float | None = None,
    filter: Filter | None = None,  # noqa: A002
    initial: str | Path | None = None,
    raw: bool = False,
    encoder_weights: Path | None = None,
    teacher: str | Path | None = None,
    unlabelled: str | Path | None = None,
    folds: int | None = None,
    group_by: str | None = None,
    gate_open: float | None = None,
    device: str = "cpu",
    devices: int = 1,
    workers: int | None = None,
    callbacks: Sequence[Callback] = (),
    report: Callable[[Progress], None] = lambda progress: None,
    describe: Callable[[Contents], None] = lambda contents: None,
    **arguments: Any,
) -> Card:
    """Train a variant and return the card of the best epoch; resumes an interrupted run.

    An interrupted run resumes after its last finished epoch and ends with bit-identical weights.
    With `folds` the recipe is cross-validated first, see `cross_validate`, and the card tells.

    Args:
        data: data set or its path, or `cells` for procedural frames, which are written into
            `output`.
        output: receives best.safetensors and best.json, last.pt to resume from, log.jsonl, and the
            page train.html; with folds also folds.json, and the runs of the folds in `folds`; with
            `config.gate_epochs` the run of that stage in `gate`.
        size: (height, width) of the net's input at inference. None takes the first image's size,
            rounded to what the net accepts.
        channels, levels, resize, fill, filter: as in `InputSpec`. None takes those of `initial`,
            else what `input_for` finds in the images, stretch and bilinear.
        initial: weights to start from, see `Checkpoint.open`; also its card's arguments, except
            those in `arguments`. Heads and gate are fresh if the data has other classes, all
            but the encoder if `arguments` ask for another decoder. None starts from random weights.
        raw: of a file that holds averaged weights too, start from those that are not averaged.
        encoder_weights: state dict of a classifier to start the encoder from, see `load_encoder`.
        teacher: trained net to learn from beside the labels, see `open_teacher`; or the output of
            a run with folds, whose nets each teach the fold that they have not seen.
        unlabelled: frames that the teacher alone answers for, see `Unlabelled.open`.
        folds, group_by: see `split_folds`. None does not cross-validate. With a gate, folds also
            give its thresholds, see `cross_fit`.
        gate_open: percent of the images with a class that such a gate must be open on, see
            `open_on` of `calibrate_gate`. None promises nothing.
        device: of PyTorch. devices: processes that train together, each on a device of its own.
            They share the crops of each step. With more than one, a script must start by
            `if __name__ == "__main__"`, since Python reads it again in each process.
        workers: processes that make crops, see `open_feed`; 0: this one does.
        callbacks: follow the training, see `Callback`.
        report: called after each step. describe: called with what the data set holds, once it is
            checked.
        arguments: those of the variant, except num_classes and in_channels.

    Raises:
        DatasetError: not a data set, or one that cannot be trained on. UsageError: images that do
            not say what their values or channels mean, see `input_for`. CheckpointError: `output`
            belongs to another run, or `initial` or `teacher` does not fit. MissingDependencyError:
            a loss of torchmetrics, which is not installed. TrainingError: the loss is no longer
            finite. OutputError: another run trains into `output`. UsageError: it is a file; a net
            with a gate and `config.with_val`, but no folds; unlabelled frames without a teacher;
            weights or a teacher that know the images that are held out; a promise about a gate that
            is too high; devices that are not there, or cannot share the crops of a step.
            SourceError: no such frames.
    """
    check_lessons(teacher, unlabelled, config)
    check_grouping(folds, group_by)
    recipe, dataset = open_recipe(
        model,
        data,
        output,
        config=config,
        size=size,
        channels=channels,
        levels=levels,
        resize=resize,
        fill=fill,
        filter=filter,
        initial=initial,
        raw=raw,
        arguments=arguments,
    )
    gated = bool(recipe.arguments.get("cgm"))
    check_gate(folds, gate_open, gated=gated, with_val=config.with_val)
    check_gate_stage(config, recipe.arguments)
    output.mkdir(parents=True, exist_ok=True)
    frames = None if unlabelled is None else Unlabelled.open(unlabelled, recipe.spec, output)
    group = Group(size=devices)
    recipe = replace(
        recipe,
        encoder_weights=encoder_weights,
        unlabelled=frames,
        device=group.device(device),
        workers=workers,
        group=group,
    )
    parts = None if folds is None else split_folds(dataset, folds, group_by)
    task = _Task(recipe, dataset, output, parts, group_by, gate_open, teacher)
    trainer = task.trainer()
    task.check(trainer)
    if size is None:
        tell_of_size(trainer.contents, recipe.spec)
    describe(trainer.contents)
    with leading(devices, device, partial(_follow, task, device)):
        return task.finish(trainer, report, callbacks)


@dataclass(frozen=True)
class _Task:
    """What a run does once all is found: judge its recipe, if there are folds, and train a net."""

    recipe: Recipe
    dataset: Dataset
    output: Path
    folds: tuple[Fold, ...] | None
    group_by: str | None
    gate_open: float | None
    teacher: str | Path | None

    def trainer(self) -> Trainer:
        """Of the net of all images."""
        judged_by = {}
        if self.folds is not None:
            judged_by = {
                "folds": len(self.folds),
                "group_by": self.group_by,
                "gate_open": self.gate_open,
            }
        return self.recipe.trainer(self.dataset, self.output, teacher=self.teacher, given=judged_by)

    def check(self, trainer: Trainer) -> None:
        """Refuse what would be refused later, when nets have been trained; errors as of `train`."""
        self.recipe.check_start(trainer.net, trainer.dataset.classes)
        if self.folds is None:
            return
        self._teachers(trainer, self.folds)
        train = trainer.contents.train
        check_copies(self.folds, train.copies)
        check_classes(self.folds, trainer.dataset, trainer.contents)
        closed_at_most(train.holding, train.images, self._open_on, classes=trainer.dataset.classes)

    def finish(self, trainer: Trainer, report: Report, callbacks: Sequence[Callback] = ()) -> Card:
        """Train all nets to the end."""
        page = Page(trainer)
        if self.recipe.group.leads:
            callbacks = [page, *callbacks]

        def judge(report: Report) -> Report:
            if self.folds is not None:
                page.judged, report = self._judge(trainer, self.folds, report)
            return report

        card = self.recipe.finish(trainer, report, callbacks, first=judge)
        if trainer.gate is not None and self.recipe.config.validates:
            tell_of_kept_gate(Checkpoint.open(self.output / RUN_WEIGHTS), trainer.dataset)
        return card

    def _judge(
        self, trainer: Trainer, folds: tuple[Fold, ...], report: Report
    ) -> tuple[CrossValidation | None, Report]:
        """Train a net without each fold, and keep what they tell for the trainer's card.

        Returns:
            What they tell, None unless this process leads, and what the trainer's own run is to
            report to.
        """
        by_fold, train = self._teachers(trainer, folds), trainer.contents.train
        images = [train.images - fold.held_out for fold in folds] + [len(trainer.crops)]
        passed = [self.recipe.config.epochs * count for count in images]
        names = [f"fold {fold.name} of {len(folds)}" for fold in folds]
        *reports, last = in_turn(report, passed, [*names, "all images"])

        def train_fold(fold: Fold) -> Path:
            index, run = folds.index(fold), self.output / FOLDS / fold.name
            run.mkdir(parents=True, exist_ok=True)
            own = self.recipe.for_fold(fold)
            own.finish(own.trainer(fold.dataset, run, teacher=by_fold[index]), reports[index])
            return run / RUN_WEIGHTS

        if not self.recipe.group.leads:
            for fold in folds:
                train_fold(fold)
            return None, last
        keep_division(folds, self.output)
        judged = cross_validate(folds, group_by=self.group_by, train_fold=train_fold)
        trainer.judged = {"cross_validation": judged.metrics()}
        if judged.presence is not None:
            trainer.gate, trainer.judged["gate"] = cross_fit(judged, self._open_on)
        return judged, last

    @property
    def _open_on(self) -> float | None:
        return None if self.gate_open is None else self.gate_open / 100

    def _teachers(self, trainer: Trainer, folds: tuple[Fold, ...]) -> list[str | Path | None]:
        """The teacher of each fold; UsageError if what a net starts from has seen too much."""
        start, name = self.recipe.start, trainer.dataset.name
        if start is not None:
            check_unseen("--weights", start.path, data_of(lineage(start)), name)
        if self.teacher is None or trainer.teacher is None:
            return [None for _ in folds]
        if (Path(self.teacher) / DIVISION).is_file():
            return [teacher_of(Path(self.teacher), fold) for fold in folds]
        check_unseen("--teacher", self.teacher, trainer.teacher.source.data, name)
        return [self.teacher for _ in folds]


def _follow(task: _Task, device: str, group: Group) -> None:
    """Do a task's part that falls to a process that follows another."""
    recipe = replace(task.recipe, group=group, device=group.device(device))
    task = replace(task, recipe=recipe)
    task.finish(task.trainer(), lambda progress: None)


def check_grouping(folds: int | None, group_by: str | None) -> None:
    """UsageError for groups of images without folds to keep them in."""
    if group_by is not None and folds is None:
        raise UsageError(
            "got --group-by without --folds, which it groups images for. Pass both, or neither."
        )


def check_gate(folds: int | None, gate_open: float | None, *, gated: bool, with_val: bool) -> None:
    """Refuse a gate that is to be calibrated by images that its net knows, and vain promises.

    Raises:
        UsageError: what is missing.
    """
    if gated and with_val and folds is None:
        raise UsageError(
            "with_val and a gate: its thresholds are found on val, which a net that was trained on "
            "val knows too well. Pass --folds to find them by nets that have not seen the images, "
            "or train the gate without --with-val."
        )
    if gate_open is not None and not (gated and folds is not None):
        lacks = "--folds" if gated else "--cgm"
        raise UsageError(
            f"got --gate-open without {lacks}. Pass both, or use `edgeunet gate --open` later."
        )
