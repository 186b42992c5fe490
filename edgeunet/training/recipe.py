"""What a training is made of: data, input, net and options, before anything is trained."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from copy import deepcopy
from dataclasses import KW_ONLY, dataclass, replace
from pathlib import Path
from typing import Any

from ..bundle.manifest import Filter, InputSpec, Resize
from ..catalogue import RUN_WEIGHTS
from ..data import cells
from ..data.check import Contents
from ..data.datasets import Dataset, open_dataset
from ..data.fit import Reading
from ..data.folds import HELD_OUT, Fold
from ..data.images import read_picture
from ..errors import MissingDependencyError, UsageError
from ..extras import is_installed
from ..files import check_directory, locked, sha256
from ..models import Card, Checkpoint, Preparation, SegmentationNet, model_class
from ..models.checkpoints import has_card
from ..models.structure import Structure
from .callbacks import Callback, Run
from .config import TrainConfig
from .cross_validation import Report, in_turn, of_fold
from .gate_stage import GATE, GateTrainer, stage_config
from .group import ALONE, Group
from .history import Epoch
from .inputs import input_for
from .loop import Trainer
from .start import load_encoder_file, load_start, structure_for, tell_of_fresh
from .teacher import open_teacher
from .unlabelled import Unlabelled

_log = logging.getLogger(__name__)

CELLS_TRAIN, CELLS_VAL, CELLS_SIZE = 600, 60, (256, 320)


@dataclass(frozen=True)
class Recipe:
    """What nets have in common that are trained on all the images, and on parts of them."""

    model: str
    spec: InputSpec
    config: TrainConfig
    start: Checkpoint | None
    structure: Structure | None
    arguments: dict[str, Any]
    _: KW_ONLY
    encoder_weights: Path | None = None
    unlabelled: Unlabelled | None = None
    device: str = "cpu"
    workers: int | None = None
    group: Group = ALONE

    def trainer(
        self,
        dataset: Dataset,
        output: Path,
        *,
        teacher: str | Path | None,
        kind: type[Trainer] = Trainer,
        contents: Contents | None = None,
        given: Mapping[str, Any] | None = None,
    ) -> Trainer:
        """A new one; errors as of `train`. contents, given: as of `Trainer`."""
        taught_by = (
            None
            if teacher is None
            else open_teacher(teacher, dataset, self.spec, device=self.device)
        )
        return kind(
            self.model,
            dataset,
            output,
            spec=self.spec,
            config=self.config,
            device=self.device,
            workers=self.workers,
            structure=self.structure,
            teacher=taught_by,
            unlabelled=self.unlabelled,
            group=self.group,
            contents=contents,
            given={**self._weights, **(given or {})},
            **self.arguments,
        )

    @property
    def _weights(self) -> dict[str, str]:
        """Hashes of what the nets begin with."""
        files = {
            "weights": None if self.start is None else self.start.path,
            "encoder_weights": self.encoder_weights,
        }
        return {name: sha256(path) for name, path in files.items() if path is not None}

    def for_fold(self, fold: Fold) -> Recipe:
        """The recipe of a net that must not see what a fold holds out."""
        frames = self.unlabelled
        if frames is not None:
            held_out = [sample.image for sample in fold.dataset.samples(HELD_OUT)]
            frames = frames.without(held_out)
        return replace(self, config=of_fold(self.config), unlabelled=frames)

    def check_start(self, net: SegmentationNet, classes: Sequence[str]) -> None:
        """CheckpointError for weights to start from that do not fit a net, which stays as it is.

        A warning tells of layers that start anew.
        """
        net = deepcopy(net)
        if self.start is not None:
            load_start(net, self.start, classes)
            tell_of_fresh(net, self.start, classes)
        if self.encoder_weights is not None:
            load_encoder_file(net, self.encoder_weights)

    def finish(
        self,
        trainer: Trainer,
        report: Report,
        callbacks: Sequence[Callback] = (),
        *,
        first: Callable[[Report], Report] = lambda report: report,
    ) -> Card:
        """Train to the end, from the start or from where a run was interrupted.

        Args:
            first: is called before the net is trained, when the callbacks know of the run; returns
                what the net's training reports to.
        """
        with self._alone(trainer.output):
            resumed = trainer.resume()
            for each in callbacks:
                each.on_start(self._run_of(trainer))
            report = first(report)
            if not resumed:
                report = self._start(trainer, report)

            def tell(epoch: Epoch) -> None:
                for each in callbacks:
                    each.on_epoch(epoch)

            card = trainer.run(report, tell)
            for each in callbacks:
                each.on_end(card)
            return card

    def _start(self, trainer: Trainer, report: Report) -> Report:
        """Give a net its first weights; returns what its own run is to report to."""
        if self.config.gate_epochs:
            return self._teach_gate(trainer, report)
        if self.start is not None:
            trainer.start_from(self.start)
        if self.encoder_weights is not None:
            trainer.start_encoder_from(self.encoder_weights)
        return report

    def _teach_gate(self, trainer: Trainer, report: Report) -> Report:
        """Start a net with an encoder and a gate that were trained alone; see `_start`."""
        config = stage_config(self.config, self.spec)
        passed = [each.epochs * len(trainer.crops) for each in (config, self.config)]
        first, own = in_turn(report, passed, ["gate", "net"])
        stage = replace(self, config=config, unlabelled=None)
        run = trainer.output / GATE
        run.mkdir(exist_ok=True)
        gate = stage.trainer(
            trainer.dataset, run, teacher=None, kind=GateTrainer, contents=trainer.contents
        )
        stage.finish(gate, first)
        trainer.start_from(Checkpoint.open(run / RUN_WEIGHTS))
        return own

    def _alone(self, run: Path) -> AbstractContextManager[object]:
        """Keeps other trainings out of a run's folder; a group's first process does."""
        return locked(run, lock=run / ".edgeunet.lock") if self.group.leads else nullcontext()

    def _run_of(self, trainer: Trainer) -> Run:
        return Run(
            trainer.output,
            self.model,
            trainer.arguments,
            trainer.dataset.name,
            trainer.dataset.classes,
            self.config,
            trainer.epoch,
        )


def open_recipe(
    model: str,
    data: str | Path | Dataset,
    output: Path,
    *,
    config: TrainConfig,
    size: tuple[int, int] | None,
    channels: Sequence[str] | None,
    levels: Sequence[float] | None,
    resize: Resize | None,
    fill: float | None,
    filter: Filter | None,  # noqa: A002
    initial: str | Path | None,
    raw: bool,
    arguments: dict[str, Any],
) -> tuple[Recipe, Dataset]:
    """Open the data and the weights to start from; see `train` for the arguments and errors.

    The recipe has no teacher and no unlabelled frames yet.
    """
    check_directory(output, force=True)
    check_loss(config.loss)
    reading = Reading(
        None if levels is None else tuple(levels),
        None if channels is None else tuple(channels),
    )
    # Before any data is drawn, so that bad weights are refused at once; `input_of` sets the size.
    start = open_start(model, initial, size=size, reading=reading, raw=raw)
    dataset = _open_data(data, output)
    card = None if start is None else start.card
    spec = input_of(
        model,
        dataset,
        size=size,
        reading=reading,
        resize=resize,
        fill=fill,
        filter=filter,
        start=None if card is None else card.input,
    )
    structure = None if card is None else structure_for(card, num_classes=len(dataset.classes))
    net = {} if card is None else dict(card.arguments)
    for name in ("num_classes", "in_channels"):  # they follow from the data and the input
        net.pop(name, None)
    return Recipe(model, spec, config, start, structure, net | arguments), dataset


def check_loss(name: str) -> None:
    """MissingDependencyError if a loss needs a package that is not installed."""
    if name == "hybrid" and not is_installed("torchmetrics"):
        raise MissingDependencyError("torchmetrics")


def check_lessons(
    teacher: str | Path | None, unlabelled: str | Path | None, config: TrainConfig
) -> None:
    """Refuse options without what they are for, and unlabelled frames without room for labels.

    Raises:
        UsageError: what is missing.
    """
    needs = {
        "--teacher": (teacher, ("temperature", "teacher_weight")),
        "--unlabelled": (unlabelled, ("unlabelled_share",)),
    }
    for option, (value, names) in needs.items():
        for name in names:
            if value is None and getattr(config, name) != getattr(TrainConfig, name):
                raise UsageError(
                    f"got --{name.replace('_', '-')} without {option}, which it is for. Pass both, "
                    "or neither."
                )
    if unlabelled is None:
        return
    if teacher is None:
        raise UsageError(
            "got --unlabelled without --teacher, which answers for these frames. Pass it, too."
        )
    if config.batch_size == 1:
        raise UsageError(
            "got --unlabelled with --batch 1; expected room for labelled crops too. Pass --batch 2 "
            "or more."
        )


def open_start(
    model: str,
    initial: str | Path | None,
    *,
    size: tuple[int, int] | None,
    reading: Reading,
    raw: bool,
) -> Checkpoint | None:
    """The weights to start from, see `train`; None for random ones.

    Raises:
        CheckpointError: weights that do not fit the model. UsageError: `raw` without weights.
    """
    if initial is None:
        if raw:
            raise UsageError("got --raw without --weights. Pass the checkpoint to start from, too.")
        return None
    told = None if has_card(initial, model) else Preparation(reading.channels, reading.levels)
    return Checkpoint.open(initial, model, size=size or CELLS_SIZE, preparation=told, raw=raw)


def input_of(
    model: str,
    dataset: Dataset,
    *,
    size: tuple[int, int] | None = None,
    reading: Reading,
    resize: Resize | None = None,
    fill: float | None = None,
    filter: Filter | None = None,  # noqa: A002
    start: InputSpec | None = None,
) -> InputSpec:
    """The input that `train` gives a net; see there and `input_for`, also for the errors."""
    first = read_picture(dataset.samples("train")[0].image)
    size = size or _rounded(first.pixels.shape[:2], model_class(model).size_multiple)
    return input_for(
        dataset,
        first,
        size,
        reading=reading,
        resize=resize,
        fill=fill,
        filter=filter,
        start=start,
    )


def tell_of_size(contents: Contents, spec: InputSpec) -> None:
    """Warn of an input that has its size from the first image, if others have another."""
    if len(contents.sizes) > 1:
        _log.warning(
            "the images have several sizes: %s. The net's input is %dx%d, after the first image. "
            "Pass --size for another.",
            contents.sizes_text(),
            spec.height,
            spec.width,
        )


def _open_data(data: str | Path | Dataset, output: Path) -> Dataset:
    """Open the data set; procedural frames are first written into `output`, once."""
    if isinstance(data, Dataset):
        return data
    if str(data) != cells.NAME:
        return open_dataset(data)
    folder = output / "data"
    if not folder.exists():
        height, width = CELLS_SIZE
        cells.write_dataset(folder, train=CELLS_TRAIN, val=CELLS_VAL, height=height, width=width)
    return open_dataset(folder)


def _rounded(size: tuple[int, ...], multiple: int) -> tuple[int, int]:
    """A size with each side rounded to the nearest multiple."""
    rows, columns = (max(1, round(side / multiple)) * multiple for side in size)
    return rows, columns
