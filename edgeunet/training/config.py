"""Training options, the recipes of the variants' papers, and progress reports."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from typing import Any

from ..errors import UsageError
from .losses import find_loss


@dataclass(frozen=True)
class TrainConfig:
    """How to train.

    crop: (height, width) of the training crops, pixels. scale: smallest and largest zoom of a crop.
    learning_rate: the highest one. warmup: share of the steps with a rising learning rate; a cosine
    to 0 follows. ema: decay of the weights' moving average, which is validated and saved.
    amp: whether the net runs in BF16. validate_every: epochs from one validation to the next.
    loss: a name in `LOSSES`. border: weight w0 of the borders between touching instances, see
    `weight_map`; 0 for none. elastic: sigma of the elastic deformation's displacements, pixels; 0
    for none. focus: share of the crops that are placed on rare classes, see `Focus`.
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
            raise UsageError(f"focus is {self.focus:g}; expected a share of the crops, 0 to 1.")
        find_loss(self.loss)

    @classmethod
    def for_model(cls, model: str, **changes: Any) -> TrainConfig:
        """Options of the variant's paper, with these changes."""
        return replace(RECIPES.get(model, cls()), **changes)


RECIPES = {
    # Ronneberger et al., arXiv 1505.04597, sections 3 and 3.1.
    "unet": TrainConfig(loss="weighted_cross_entropy", border=10.0, elastic=10.0),
    "unetpp": TrainConfig(loss="cross_entropy_pixel_dice"),
    "unet3p": TrainConfig(loss="hybrid"),
}
"""Options of each variant whose paper trains in a way of its own."""


@dataclass(frozen=True)
class Progress:
    """Progress of a run after a step.

    done: finished share of the run, 0..1. epoch: finished epochs. loss: mean of the epoch so far.
    rate: training images a second since the run started or resumed. remaining: seconds to the end
    at that rate. miou: in percent, None unless the epoch was just validated.
    """

    done: float
    epoch: int
    loss: float
    rate: float
    remaining: float
    miou: float | None = None


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
