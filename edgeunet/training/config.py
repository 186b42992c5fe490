"""Training options, the recipes of the variants' papers, and progress reports."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from typing import Any

from ..errors import UsageError
from ..fields import check, described
from .augment import Flip
from .losses import LOSSES, WEIGHTED
from .photometry import PHOTOMETRY

_PAPER = "the paper's"


@dataclass(frozen=True)
class TrainConfig:
    """How to train; the help texts of the fields say what each is.

    crop: (height, width), pixels. warmup: share of the steps with a rising learning rate; a cosine
    to 0 follows. ema: decay of the weights' moving average, which is validated and saved.
    validate_every: epochs from one validation to the next; 0 keeps the last epoch. patience: looked
    at after each validation, so that with 5 epochs between two of them 6 to 10 are the same.
    loss: a name in `LOSSES`. border: w0 of `WeightMaps`. focus: see `Focus`. mix: see
    `mix_classes`. temperature, teacher_weight: 1 as in Yang et al., CVPR 2022 (arXiv 2204.06986),
    pixel by pixel. unlabelled_share: a half as in Yang et al., CVPR 2023 (arXiv 2208.09910); an
    epoch stays a pass over the labelled images.
    """

    crop: tuple[int, int] = described((192, 256), "Size of the training crops.", ge=1)
    scale: tuple[float, float] = described(
        (0.5, 1.6), "Smallest and largest zoom of a crop.", gt=0, metavar="MIN MAX"
    )
    epochs: int = described(100, "Passes over the training images.", ge=1)
    gate_epochs: int = described(
        0,
        "Passes over whole images that first teach encoder and gate alone: see docs/gate.md.",
        ge=0,
    )
    batch_size: int = described(12, "Crops per training step.", ge=1, flag="--batch")
    learning_rate: float = described(2e-3, "Highest learning rate.", gt=0, flag="--lr")
    encoder_rate: float = described(
        1.0,
        "Learning rate of the encoder, as a share of the others'; 0.5 suits one that starts from "
        "ImageNet.",
        gt=0,
        le=1,
        flag="--encoder-lr",
    )
    weight_decay: float = 1e-2
    warmup: float = 0.05
    ema: float = 0.995
    amp: bool = described(True, "Run the net in BF16 (autocast).")
    with_val: bool = described(
        False, "Train on val too and keep the last epoch: for a recipe that is already judged."
    )
    seed: int = described(0, "Seed of weights and crops.", ge=0)
    validate_every: int = 5
    patience: int | None = described(
        None,
        "Stop once val's mIoU has not risen for so many epochs; it is measured after every 5th.",
        ge=1,
        metavar="EPOCHS",
        shown_default="all epochs",
    )
    loss: str = described(
        "cross_entropy_dice",
        "Loss of every head.",
        choices=tuple(sorted(LOSSES)),
        metavar="NAME",
        shown_default=_PAPER,
    )
    border: float | None = described(
        None,
        "Extra weight between touching instances, for weighted_cross_entropy alone.",
        ge=0,
        shown_default=_PAPER,
    )
    elastic: float = described(
        0.0, "Sigma of the elastic deformation, pixels.", ge=0, shown_default=_PAPER
    )
    flip: Flip = described(
        "horizontal",
        "How half of the crops are mirrored: both also upside down, for what has no up, such as "
        "cells or tiles; none where left and right differ.",
    )
    focus: float = described(0.0, "Share of the crops that are placed on rare classes.", ge=0, le=1)
    photometry: str = described(
        "mild",
        "How much light, optics and compression vary: mild for one camera in steady light, camera "
        "for cameras and weather as they come.",
        choices=tuple(PHOTOMETRY),
    )
    mix: float = described(
        0.0, "Share of the crops that get half the classes of another one.", ge=0, le=1
    )
    temperature: float = described(
        1.0,
        "Divides both nets' logits; a higher one shows more of --teacher's doubt.",
        gt=0,
        section="Teacher",
    )
    teacher_weight: float = described(
        1.0, "Weight of what --teacher says; the labels have 1.", gt=0, section="Teacher"
    )
    unlabelled_share: float = described(
        0.5, "Share of --unlabelled's crops in a training step.", gt=0, lt=1, section="Teacher"
    )

    def __post_init__(self) -> None:
        check(self)
        if self.scale[0] > self.scale[1]:
            raise UsageError(
                f"scale is {self.scale[0]:g} to {self.scale[1]:g}; the smaller zoom comes first."
            )
        if self.border is not None and self.loss != WEIGHTED:
            raise UsageError(
                f"border is {self.border:g}, but the loss {self.loss} gives borders no weight. "
                f"Leave it out, or train with the loss {WEIGHTED}."
            )
        if self.patience is not None:
            self._check_patience(self.patience)

    def _check_patience(self, patience: int) -> None:
        """UsageError if it could never end a run."""
        if not self.validates:
            raise UsageError(
                "got --patience, but val is not looked at (--with-val, or validate_every is 0), so "
                "that there is no mIoU to rise. Leave one of the two out."
            )
        every = self.validate_every
        longest = (self.epochs - 1) // every * every - every  # from the first one to the last
        if patience > longest:
            raise UsageError(
                f"patience is {patience}, which never ends {self.epochs} epochs early: val is "
                f"looked at every {every} epochs. Pass "
                + (f"{longest} or less, or more --epochs." if longest > 0 else "more --epochs.")
            )

    @property
    def validates(self) -> bool:
        """Whether val chooses the epoch, and calibrates the gate."""
        return self.validate_every > 0 and not self.with_val

    @property
    def unlabelled_crops(self) -> int:
        """Crops without labels in a training step, if there are any: at least 1, never all."""
        wanted = round(self.unlabelled_share * self.batch_size)
        return min(max(1, wanted), self.batch_size - 1)

    @classmethod
    def for_model(cls, model: str, **changes: Any) -> TrainConfig:
        """Options of the variant's paper, with these changes."""
        return replace(RECIPES.get(model, cls()), **changes)


RECIPES = {
    # Ronneberger et al., arXiv 1505.04597, sections 3 and 3.1.
    "unet": TrainConfig(loss=WEIGHTED, elastic=10.0),
    "unetpp": TrainConfig(loss="cross_entropy_pixel_dice"),
    "unet3p": TrainConfig(loss="hybrid"),
}
"""Options of each variant whose paper trains in a way of its own."""


@dataclass(frozen=True)
class Progress:
    """Progress of a run after a step.

    done: finished share, 0..1. epoch: finished epochs. loss: mean of the epoch so far.
    rate: training images a second since the run started or resumed. remaining: seconds to the end
    at that rate. miou: in percent, None unless the epoch was just validated. run: which of several
    it is; `done` and `remaining` are then those of all.
    """

    done: float
    epoch: int
    loss: float
    rate: float
    remaining: float
    miou: float | None = None
    run: str = ""


class Clock:
    """Measures a run from when it started or resumed.

    Args:
        done: finished share of the run at that time. images: number of them in the whole run.
    """

    def __init__(self, done: float, images: int) -> None:
        self._start, self._done, self._images = time.monotonic(), done, images

    def progress(self, done: float, epoch: int, loss: float, miou: float | None = None) -> Progress:
        """Progress when a share `done` of the whole run is finished."""
        passed, since = time.monotonic() - self._start, done - self._done
        rate = since * self._images / passed
        return Progress(done, epoch, loss, rate, (1 - done) * passed / since, miou)
