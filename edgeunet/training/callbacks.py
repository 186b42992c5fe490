"""What follows a training: the interface of loggers, and of code of your own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..models import Card
from .config import TrainConfig
from .history import Epoch


@dataclass(frozen=True)
class Run:
    """A training that starts or resumes.

    folder: receives its files. arguments: of the net. data: name of the data set. epoch: how many
    are done already, 0 unless it resumes.
    """

    folder: Path
    model: str
    arguments: Mapping[str, Any]
    data: str
    classes: tuple[str, ...]
    config: TrainConfig
    epoch: int


class Callback:
    """Follows a training, as an argument of `train`. Override what you need.

    With folds it follows the net of all images. What a method raises ends the training, which can
    be resumed.

    Example:
        >>> from edgeunet.training.callbacks import Callback
        >>> class Shout(Callback):
        ...     def on_epoch(self, epoch):
        ...         print(f"epoch {epoch.epoch}: loss {epoch.loss:.3f}")
        >>> from edgeunet.training.history import Epoch
        >>> Shout().on_epoch(Epoch(1, 0.5, None, 0.1))
        epoch 1: loss 0.500
    """

    def on_start(self, run: Run) -> None:
        """Called before the first step."""

    def on_epoch(self, epoch: Epoch) -> None:
        """Called after each epoch. A resumed run repeats those since its last state."""

    def on_end(self, card: Card) -> None:
        """Called when all files of the run are written. card: of the net that is kept."""
