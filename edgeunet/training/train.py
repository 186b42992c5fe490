"""Train a variant on a data set, or on procedural frames."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from ..manifest import InputSpec
from ..models import model_class
from ..models.checkpoints import Card, read_card
from ..models.structure import Structure
from .cells import write_dataset
from .data import Dataset, open_dataset, read_image
from .loop import Progress, TrainConfig, Trainer

PROCEDURAL = "cells"
"""Name that stands for the procedural data instead of a directory."""

CELLS_TRAIN, CELLS_VAL, CELLS_SIZE = 600, 60, (256, 320)


def train(
    model: str,
    data: str | Path,
    output: Path,
    *,
    config: TrainConfig,
    size: tuple[int, int] | None = None,
    initial: Path | None = None,
    report: Callable[[Progress], None] = lambda news: None,
    **arguments: Any,
) -> Card:
    """Train a variant, or take up a run that was ended; returns the card of the best epoch.

    Args:
        data: data set, or `cells` for procedural frames, which are written into `output`.
        output: holds best.safetensors and best.json, last.pt to resume from, log.jsonl.
        size: (height, width) of the net's input at inference, None for the first image's size,
            rounded to what the net takes.
        initial: checkpoint whose weights the run starts from, and the channels of its layers where
            it was pruned; None starts from random ones.
        arguments: those of the variant.

    Raises:
        DatasetError: not a data set. CheckpointError: `output` belongs to another run.
    """
    if str(data) == PROCEDURAL:
        data = output / "data"
        if not data.exists():
            height, width = CELLS_SIZE
            write_dataset(data, train=CELLS_TRAIN, val=CELLS_VAL, height=height, width=width)
    dataset = open_dataset(data)
    spec = InputSpec(*(size or _usual_size(dataset, model_class(model).size_multiple)))
    output.mkdir(parents=True, exist_ok=True)
    structure = None if initial is None else _structure_in(initial)
    trainer = Trainer(
        model, dataset, output, spec=spec, config=config, structure=structure, **arguments
    )
    if not trainer.resume() and initial is not None:
        trainer.start_from(initial)
    return trainer.run(report)


def _structure_in(checkpoint: Path) -> Structure | None:
    """Channels of the layers of a pruned checkpoint; None for others, and without a card."""
    has_card = checkpoint.with_suffix(".json").is_file()
    return read_card(checkpoint).structure if has_card else None


def _usual_size(dataset: Dataset, multiple: int) -> tuple[int, int]:
    """Size of the first training image, each side rounded to the nearest multiple."""
    height, width = read_image(dataset.samples("train")[0].image).shape[:2]
    rows, columns = (max(1, round(side / multiple)) * multiple for side in (height, width))
    return rows, columns
