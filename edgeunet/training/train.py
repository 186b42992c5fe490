"""Train a variant on a data set or on procedural frames."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from ..bundle.manifest import Filter, InputSpec, Resize
from ..data import cells
from ..data.check import Contents
from ..data.datasets import Dataset, open_dataset
from ..data.fit import Reading
from ..data.images import read_picture
from ..errors import MissingDependencyError, UsageError
from ..extras import is_installed
from ..files import check_directory, locked
from ..models import Card, Checkpoint, Preparation, model_class
from ..models.checkpoints import has_card
from .config import Progress, TrainConfig
from .inputs import input_for
from .loop import Trainer
from .start import structure_for
from .teacher import open_teacher
from .unlabelled import Unlabelled

CELLS_TRAIN, CELLS_VAL, CELLS_SIZE = 600, 60, (256, 320)


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
    device: str = "cpu",
    workers: int = 0,
    report: Callable[[Progress], None] = lambda progress: None,
    describe: Callable[[Contents], None] = lambda contents: None,
    **arguments: Any,
) -> Card:
    """Train a variant and return the card of the best epoch; resumes an interrupted run.

    An interrupted run resumes after its last finished epoch and ends with bit-identical weights.

    Args:
        data: data set or its path, or `cells` for procedural frames, which are written into
            `output`.
        output: receives best.safetensors and best.json, last.pt to resume from, and log.jsonl.
        size: (height, width) of the net's input at inference. None takes the first image's size,
            rounded to what the net accepts.
        channels, levels, resize, fill, filter: as in `InputSpec`. None takes those of `initial`,
            else what `input_for` finds in the images, stretch and bilinear.
        initial: weights to start from, see `Checkpoint.open`; also its card's arguments, except
            those in `arguments`. Heads and gate are fresh if the data has other classes. None
            starts from random weights.
        raw: of a file that holds averaged weights too, start from those that are not averaged.
        encoder_weights: state dict of a classifier to start the encoder from, see `load_encoder`.
        teacher: trained net to learn from beside the labels, see `open_teacher`.
        unlabelled: frames that the teacher alone answers for, see `Unlabelled.open`.
        device: of PyTorch. workers: processes that make crops; 0 makes them in this one.
        describe: called with what the data set holds, once it is checked.
        arguments: those of the variant, except num_classes and in_channels.

    Raises:
        DatasetError: not a data set, or one that cannot be trained on. UsageError: images that do
            not say what their values or channels mean, see `input_for`. CheckpointError: `output`
            belongs to another run, or `initial` or `teacher` does not fit. MissingDependencyError:
            a loss of torchmetrics, which is not installed. TrainingError: the loss is no longer
            finite. OutputError: another run trains into `output`. UsageError: it is a file; a net
            with a gate and `config.with_val`; unlabelled frames without a teacher. SourceError: no
            such frames.
    """
    check_directory(output, force=True)
    check_lessons(teacher, unlabelled, config)
    if config.loss == "hybrid" and not is_installed("torchmetrics"):
        raise MissingDependencyError("torchmetrics")
    reading = Reading(
        None if levels is None else tuple(levels),
        None if channels is None else tuple(channels),
    )
    # Before any data is drawn, so that bad weights are refused at once; `_input` sets the size.
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
    taught_by = None if teacher is None else open_teacher(teacher, dataset, spec, device=device)
    structure = None if card is None else structure_for(card, num_classes=len(dataset.classes))
    known = {} if card is None else dict(card.arguments)
    for name in ("num_classes", "in_channels"):  # they follow from the data and the input
        known.pop(name, None)
    output.mkdir(parents=True, exist_ok=True)
    frames = None if unlabelled is None else Unlabelled.open(unlabelled, spec, output)
    trainer = Trainer(
        model,
        dataset,
        output,
        spec=spec,
        config=config,
        device=device,
        workers=workers,
        structure=structure,
        teacher=taught_by,
        unlabelled=frames,
        **{**known, **arguments},
    )
    describe(trainer.contents)
    with locked(output, lock=output / ".edgeunet.lock"):
        if not trainer.resume():
            if start is not None:
                trainer.start_from(start)
            if encoder_weights is not None:
                trainer.start_encoder_from(encoder_weights)
        return trainer.run(report)


def check_lessons(
    teacher: str | Path | None, unlabelled: str | Path | None, config: TrainConfig
) -> None:
    """Refuse unlabelled frames without a teacher, or without room for labelled ones.

    Raises:
        UsageError: what is missing.
    """
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
