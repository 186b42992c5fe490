"""What the epochs of a run told: the best one, and whether it is worth going on."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from ..files import write_bytes

LOG = "log.jsonl"


@dataclass(frozen=True)
class Epoch:
    """An epoch that has ended; a line of `log.jsonl`.

    loss: mean over its steps. miou: of val, in percent; None if that was not looked at.
    minutes: of the run so far.
    """

    epoch: int
    loss: float
    miou: float | None
    minutes: float


@dataclass
class History:
    """The epochs of a run, in order. patience: see `TrainConfig`."""

    patience: int | None = None
    epochs: list[Epoch] = field(default_factory=list)

    @property
    def validated(self) -> list[tuple[int, float]]:
        """Numbers of the epochs after which val was looked at, and its mIoU."""
        return [(each.epoch, each.miou) for each in self.epochs if each.miou is not None]

    @property
    def best(self) -> tuple[int, float] | None:
        """The first epoch of the highest mIoU, and that; None if val was not looked at yet."""
        return max(self.validated, key=lambda each: each[1], default=None)

    @property
    def has_stalled(self) -> bool:
        """Whether the mIoU has not risen for the epochs of the patience."""
        if self.patience is None or self.best is None:
            return False
        return self.validated[-1][0] - self.best[0] >= self.patience

    @property
    def lines(self) -> list[dict[str, Any]]:
        """What a state keeps."""
        return [asdict(each) for each in self.epochs]

    def restore(self, lines: Sequence[dict[str, Any]]) -> None:
        """Take the epochs of a state."""
        self.epochs = [Epoch(**line) for line in lines]

    def write(self, folder: Path) -> None:
        """Write the whole log, so that it matches the state even after a kill between the two."""
        log = "".join(json.dumps(line) + "\n" for line in self.lines)
        write_bytes(folder / LOG, log.encode())
