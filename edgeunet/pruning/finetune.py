"""Training a pruned net on, with the trainer that made it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path

from ..bundle.schema import SchemaError, decode
from ..data.datasets import Dataset
from ..errors import CheckpointError
from ..models import Card, Checkpoint
from ..training.config import Progress, TrainConfig
from ..training.loop import Trainer
from ..training.start import known_arguments


def finetune(
    start: Checkpoint,
    dataset: Dataset,
    run: Path,
    *,
    epochs: int,
    report: Callable[[Progress], None] = lambda news: None,
) -> Checkpoint:
    """The best epoch of a run that starts from the weights and channels of a checkpoint.

    Args:
        run: directory of the run; one that was ended there is taken up.

    Raises:
        CheckpointError: `run` belongs to another run.
    """
    card = start.card
    run.mkdir(parents=True, exist_ok=True)
    trainer = Trainer(
        card.model,
        dataset,
        run,
        spec=card.input,
        config=_config(card, epochs),
        structure=card.structure,
        **known_arguments(card),
    )
    if not trainer.resume():
        trainer.start_from(start)
    trainer.run(report)
    return Checkpoint.open(run / "best.safetensors")


def _config(card: Card, epochs: int) -> TrainConfig:
    """The training that made the weights, in fewer epochs; the defaults where the card has none.

    The learning rate starts as high as it did then: Renda et al., "Comparing Rewinding and
    Fine-tuning in Neural Network Pruning", ICLR 2020 (arXiv 2003.02389), section 4.
    """
    known = [field.name for field in fields(TrainConfig)]
    try:
        config = decode(TrainConfig, {k: v for k, v in card.training.items() if k in known})
    except SchemaError as error:
        raise CheckpointError(
            f"the card's record of the training does not fit the trainer: {error}"
        ) from None
    return replace(config, epochs=epochs)
