"""A training as an HTML page that needs nothing from elsewhere, from `templates/`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from ..catalogue import RUN_WEIGHTS
from ..confusion import confusion_of
from ..data.check import SplitContents
from ..data.datasets import read_labels
from ..data.fit import visible
from ..data.page import coloured, reduced
from ..files import write_bytes
from ..metrics import Matrix, in_percent, iou_per_class, mean_iou
from ..models import Card, Checkpoint
from ..pages import data_url, render
from .callbacks import Callback
from .cross_validation import CrossValidation
from .curves import HEIGHT, PLOT, WIDTH, draw
from .loop import Trainer

PAGE = "train.html"
WORST = 6
"""Frames on the page."""


@dataclass(frozen=True)
class Measure:
    """Predictions of images that a net was not trained on. title: which."""

    title: str
    confusion: Matrix

    @property
    def iou(self) -> tuple[float | None, ...]:
        """Of each class, in percent."""
        return in_percent(iou_per_class(self.confusion))

    @property
    def miou(self) -> float:
        """In percent."""
        return 100 * mean_iou(self.confusion)


@dataclass(frozen=True)
class Shown:
    """A frame on the page. miou: in percent. pictures: `data:` URLs by caption."""

    name: str
    miou: float
    pictures: dict[str, str]


class Page(Callback):
    """Writes the page of a training when that ends, see `write_page`."""

    def __init__(self, trainer: Trainer) -> None:
        self._trainer = trainer
        self.judged: CrossValidation | None = None
        """By nets of folds, once those have been trained."""

    def on_end(self, card: Card) -> None:
        """Write it."""
        write_page(self._trainer, self.judged)


def write_page(trainer: Trainer, judged: CrossValidation | None = None) -> None:
    """Write the page of a run that has ended, into its folder.

    The classes come first, then the curves of all epochs, the confusion matrix, and the worst
    frames of val as the net that is kept sees them, without its gate. A run that keeps its last
    epoch has no such frames, and its classes are those of the folds, if there are any.
    """
    contents, dataset, config = trainer.contents, trainer.dataset, trainer.config
    measures = []
    if trainer.found is not None:
        measures.append(Measure("on val", np.array(trainer.found["confusion"])))
    if judged is not None:
        measures.append(Measure("cross-validated", judged.pooled.confusion))
    history = trainer.history
    losses = [(each.epoch, each.loss) for each in history.epochs]
    curves = [draw("loss", losses, trainer.epoch)]
    if history.best is not None:
        title, best = "mIoU on val, percent", history.best[0]
        curves.append(draw(title, history.validated, trainer.epoch, best=best))
    page = render(
        Path(__file__).parent / "templates" / "train.html",
        model=trainer.model_name,
        contents=contents,
        epochs=trainer.epoch,
        minutes=trainer.seconds / 60,
        device=trainer.device,
        notes=list(_notes(trainer, judged)),
        measures=measures,
        classes=[
            {
                "name": name,
                "colour": dataset.palette[index],
                "ious": [measure.iou[index] for measure in measures],
                "pixels": [_pixels(split, index) for split in (contents.train, contents.val)],
            }
            for index, name in enumerate(dataset.classes)
        ],
        folds=() if judged is None else judged.folds,
        curves=curves,
        width=WIDTH,
        height=HEIGHT,
        plot=PLOT,
        confusion=confusion_of(measures[0].confusion, dataset.classes) if measures else None,
        frames=[] if trainer.found is None else list(_worst(trainer, trainer.found["images"])),
        options=list(asdict(config).items()),
    )
    write_bytes(trainer.output / PAGE, page.encode())


def _notes(trainer: Trainer, judged: CrossValidation | None) -> Iterator[str]:
    """What is kept and why, and what it was measured on."""
    epochs = trainer.config.epochs
    if trainer.history.best is not None:
        best, miou = trainer.history.best
        yield f"Epoch {best} has the highest mIoU on val, {miou:.2f} %, and is kept."
        if trainer.epoch < epochs:
            yield (
                f"Stopped after epoch {trainer.epoch} of {epochs}: it had not risen since, for "
                f"--patience {trainer.config.patience}."
            )
    else:
        why = (
            "the net was trained on val too (--with-val)"
            if trainer.config.with_val
            else "val was not looked at (validate_every is 0)"
        )
        alone = "" if judged is not None else " There is no more to show than the loss."
        yield f"The last epoch is kept, and has no mIoU, because {why}.{alone}"
    if judged is not None:
        yield (
            f"{len(judged.folds)} nets of the same recipe, each judged on images that it has not "
            f"seen: mIoU {judged.pooled.miou:.2f} %. The curves are those of the net of all images."
        )


def _pixels(split: SplitContents, index: int) -> tuple[int, float]:
    """Pixels of a class in a split, and their share."""
    return int(split.pixels[index]), split.pixels[index] / split.pixels.sum()


def _worst(trainer: Trainer, scores: Sequence[float]) -> Iterator[Shown]:
    """Frames of val with the lowest scores, as the kept net sees them."""
    dataset, spec = trainer.dataset, trainer.spec
    samples = dataset.samples("val")
    net = Checkpoint.open(trainer.output / RUN_WEIGHTS).net.to(trainer.device)
    for index in sorted(range(len(scores)), key=scores.__getitem__)[:WORST]:
        sample = samples[index]
        frame = trainer.fit.read(sample.image)
        picture = visible(frame, spec.frame_channels, spec.levels)
        image, labels = reduced(picture, read_labels(sample, num_classes=len(dataset.classes)))
        _, predicted = reduced(picture, trainer.predict(net, frame))
        yield Shown(
            str(sample.image.relative_to(dataset.root)),
            scores[index],
            {
                "image": data_url("jpeg", image),
                "label": data_url("png", coloured(labels, dataset.palette)),
                "prediction": data_url("png", coloured(predicted, dataset.palette)),
            },
        )
