"""Train a pruned net further, as the original net was trained."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path

from ..bundle.schema import SchemaError, decode
from ..data.datasets import Dataset
from ..errors import CheckpointError
from ..models import Card, Checkpoint
from ..training.config import Progress, TrainConfig
from ..training.train import train


def finetune(
    start: Checkpoint,
    dataset: Dataset,
    run: Path,
    *,
    epochs: int,
    report: Callable[[Progress], None] = lambda progress: None,
) -> Checkpoint:
    """Train on from a checkpoint's weights and channels; returns the best epoch.

    Args:
        run: directory of the run; an interrupted run in it resumes.

    Raises:
        CheckpointError: `run` belongs to another run.
    """
    card = start.card
    train(
        card.model,
        dataset,
        run,
        config=_config(card, epochs),
        size=(card.input.height, card.input.width),
        initial=start.path,
        report=report,
    )
    return Checkpoint.open(run / "best.safetensors")


def _config(card: Card, epochs: int) -> TrainConfig:
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
    return replace(config, epochs=epochs)
