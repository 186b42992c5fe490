"""How to train, and what is told while it goes on."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass, field
from typing import Any

from ..errors import UsageError
from ..fields import check, describe
from .losses import LOSSES
from .recipes import recipe_of

_PAPER = "the paper's"


@dataclass(frozen=True)
class TrainConfig:
    """How to train. `crop` is (height, width) of the training crops, in pixels.

    scale: smallest and largest zoom of a crop. warmup: share of the steps with a rising learning
    rate; a cosine to 0 follows. ema: decay of the weights' moving average, which is what is
    validated and saved. validate_every: in epochs. loss, border, elastic: as in `Recipe`.
    focus: share of the crops that are placed on rare classes, see `Focus`.
    """

    crop: tuple[int, int] = field(
        default=(192, 256), metadata=describe("Size of the training crops.", ge=1)
    )
    scale: tuple[float, float] = field(
        default=(0.5, 1.6),
        metadata=describe("Smallest and largest zoom of a crop.", gt=0, metavar="MIN MAX"),
    )
    epochs: int = field(default=100, metadata=describe("Passes over the training images.", ge=1))
    batch_size: int = field(
        default=12, metadata=describe("Crops per training step.", ge=1, flag="--batch")
    )
    learning_rate: float = field(
        default=2e-3, metadata=describe("Highest learning rate.", gt=0, flag="--lr")
    )
    weight_decay: float = 1e-2
    warmup: float = 0.05
    ema: float = 0.995
    amp: bool = field(default=True, metadata=describe("Run the net in BF16 (autocast)."))
    seed: int = field(default=0, metadata=describe("Seed of weights and crops."))
    validate_every: int = 5
    loss: str = field(
        default="cross_entropy_dice",
        metadata=describe(
            "Loss of every head.",
            choices=tuple(sorted(LOSSES)),
            metavar="NAME",
            shown_default=_PAPER,
        ),
    )
    border: float = field(
        default=0.0,
        metadata=describe(
            "Extra weight between touching instances, for weighted_cross_entropy.",
            ge=0,
            shown_default=_PAPER,
        ),
    )
    elastic: float = field(
        default=0.0,
        metadata=describe("Sigma of the elastic deformation, pixels.", ge=0, shown_default=_PAPER),
    )
    focus: float = field(
        default=0.0,
        metadata=describe("Share of the crops that are placed on rare classes.", ge=0, le=1),
    )

    def __post_init__(self) -> None:
        check(self)
        if self.scale[0] > self.scale[1]:
            raise UsageError(
                f"scale is {self.scale[0]:g} to {self.scale[1]:g}; the smaller zoom comes first."
            )

    @classmethod
    def for_model(cls, model: str, **changes: Any) -> TrainConfig:
        """What the variant's paper trains with, but for the changes."""
        return cls(**{**asdict(recipe_of(model)), **changes})


@dataclass(frozen=True)
class Progress:
    """News of a step: share of the run that is done, epoch, mean loss of the epoch so far.

    rate: training images a second, since the run began or was taken up. remaining: seconds to the
    end at that rate. `miou` is in percent, set where the epoch was validated.
    """

    done: float
    epoch: int
    loss: float
    rate: float
    remaining: float
    miou: float | None = None


class Clock:
    """Rate and remaining time of a run, from when it began or was taken up.

    Args:
        done: share of the run that was over then. images: that the whole run sees.
    """

    def __init__(self, done: float, images: int) -> None:
        self._start, self._done, self._images = time.monotonic(), done, images

    def news(self, done: float, epoch: int, loss: float, miou: float | None = None) -> Progress:
        """Progress when a share `done` of the whole run is over."""
        passed, since = time.monotonic() - self._start, done - self._done
        rate = since * self._images / passed
        return Progress(done, epoch, loss, rate, (1 - done) * passed / since, miou)
