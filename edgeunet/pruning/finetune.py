"""Train a pruned net further, as the original net was trained."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from pathlib import Path

from ..bundle.schema import SchemaError, decode
from ..data.datasets import Dataset
from ..errors import CheckpointError
from ..models import Card, Checkpoint
from ..training.config import Progress, TrainConfig
from ..training.train import train

BETWEEN = 0.1
"""Share of the epochs of the last fine-tuning that a net gets after each round before."""


_LESSONS = ("temperature", "teacher_weight", "unlabelled_share")
"""Options of a teacher."""


def finetune(
    start: Checkpoint,
    dataset: Dataset,
    run: Path,
    *,
    epochs: int,
    teacher: str | Path | None = None,
    report: Callable[[Progress], None] = lambda progress: None,
) -> Checkpoint:
    """Train on from a checkpoint's weights and channels; returns the best epoch.

    Args:
        run: directory of the run; an interrupted run in it resumes.
        teacher: to learn from beside the labels, see `open_teacher`.

    Raises:
        CheckpointError: `run` belongs to another run.
    """
    card = start.card
    train(
        card.model,
        dataset,
        run,
        config=_config(card, epochs, taught=teacher is not None),
        size=(card.input.height, card.input.width),
        initial=start.path,
        teacher=teacher,
        report=report,
    )
    return Checkpoint.open(run)


@dataclass(frozen=True)
class Tuning:
    """How the nets of one pruning are fine-tuned; a call reports the validated epochs.

    epochs: of the last fine-tuning; 0 for none. teacher: see `finetune`.
    """

    dataset: Dataset
    epochs: int
    teacher: str | Path | None
    report: Callable[[str], None]

    def __call__(self, start: Checkpoint, run: Path, *, epochs: int | None = None) -> Checkpoint:
        """See `finetune`. epochs: other ones than those of the last fine-tuning."""
        total, report = epochs or self.epochs, self.report

        def tell(news: Progress) -> None:
            if news.miou is not None:
                report(
                    f"epoch {news.epoch} of {total}: loss {news.loss:.3f}, mIoU {news.miou:.2f} %"
                )

        report(f"fine-tuning, {total} epochs")
        return finetune(start, self.dataset, run, epochs=total, teacher=self.teacher, report=tell)

    def briefly(self, start: Checkpoint, run: Path) -> Checkpoint:
        """Train between two rounds, see `BETWEEN`."""
        return self(start, run, epochs=max(1, round(BETWEEN * self.epochs)))


def _config(card: Card, epochs: int, *, taught: bool = False) -> TrainConfig:
    """The options that the weights were trained with, but other epochs; defaults if not recorded.

    The learning rate starts as high as in the original training: Renda et al., "Comparing Rewinding
    and Fine-tuning in Neural Network Pruning", ICLR 2020 (arXiv 2003.02389), section 4.
    """
    known = [field.name for field in fields(TrainConfig)]
    try:
        config = decode(TrainConfig, {k: v for k, v in card.training.items() if k in known})
    except SchemaError as error:
        raise CheckpointError(
            f"the card's training record does not fit the trainer: {error}. Correct "
            "the record, or pass --finetune-epochs 0."
        ) from None
    # Patience is that of other epochs, the gate has been taught, and val chooses the epoch.
    config = replace(config, epochs=epochs, patience=None, gate_epochs=0, with_val=False)
    lessons = ("unlabelled_share",) if taught else _LESSONS  # of nets that were taught otherwise
    return replace(config, **{name: getattr(TrainConfig, name) for name in lessons})
