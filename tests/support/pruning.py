"""Checkpoints that are pruned, and how."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from edgeunet.bundle.card import Card
from edgeunet.bundle.manifest import InputSpec
from edgeunet.data.cells import CLASSES, PALETTE
from edgeunet.models import create_model
from edgeunet.models.checkpoints import save_checkpoint
from edgeunet.pruning.prune import PruneOptions

TRAINING = {"crop": [64, 64], "batch_size": 2, "epochs": 90, "validate_every": 1, "amp": False}


def saved(folder: Path, model: str = "unet", *, half: bool = False, **arguments: Any) -> Path:
    """A checkpoint of a tiny net with random weights, in its own folder."""
    torch.manual_seed(0)
    arguments = {"num_classes": 3, "width": 4, **arguments}
    card = Card(
        model=model,
        arguments=arguments,
        classes=CLASSES,
        palette=PALETTE,
        input=InputSpec(64, 64),
        data="cells",
        metrics={"miou": 71.25},
        training=TRAINING,
        gate=(0.25, 0.5, 0.75) if arguments.get("cgm") else None,
    )
    path = folder / "source" / "whole.safetensors"
    save_checkpoint(path, create_model(model, **arguments), card, half=half)
    return path


def by_ratio(source: Path, data: Path, *, epochs: int, ratio: float = 0.5) -> PruneOptions:
    return PruneOptions("unet", str(source), ratio=ratio, data=data, finetune_epochs=epochs)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())
