"""How to train, and what is told while it goes on."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass
from typing import Any

from ..errors import UsageError
from .losses import find_loss
from .recipes import recipe_of


@dataclass(frozen=True)
class TrainConfig:
    """How to train. `crop` is (height, width) of the training crops, in pixels.

    scale: smallest and largest zoom of a crop. warmup: share of the steps with a rising learning
    rate; a cosine to 0 follows. ema: decay of the weights' moving average, which is what is
    validated and saved. validate_every: in epochs. loss, border, elastic: as in `Recipe`.
    focus: share of the crops that are placed on rare classes, see `Focus`.
    """

    crop: tuple[int, int] = (192, 256)
    scale: tuple[float, float] = (0.5, 1.6)
    epochs: int = 100
    batch_size: int = 12
    learning_rate: float = 2e-3
    weight_decay: float = 1e-2
    warmup: float = 0.05
    ema: float = 0.995
    amp: bool = True
    seed: int = 0
    validate_every: int = 5
    loss: str = "cross_entropy_dice"
    border: float = 0.0
    elastic: float = 0.0
    focus: float = 0.0

    def __post_init__(self) -> None:
        if min(self.crop) < 1 or self.learning_rate <= 0 or not 0 < self.scale[0] <= self.scale[1]:
            raise UsageError(
                f"crop is {self.crop[0]}x{self.crop[1]}, the learning rate {self.learning_rate:g}, "
                f"the scale {self.scale[0]:g} to {self.scale[1]:g}; all must be positive, and the "
                "smaller scale must come first."
            )
        if min(self.border, self.elastic) < 0:
            raise UsageError(
                f"border is {self.border:g}, elastic {self.elastic:g}; neither can be negative."
            )
        if not 0 <= self.focus <= 1:
            raise UsageError(f"focus is {self.focus:g}; a share of the crops is 0 to 1.")
        find_loss(self.loss)

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
