"""Checkpoints that are pruned, and how."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch

from edgeunet.bundle.card import Card
from edgeunet.bundle.manifest import InputSpec
from edgeunet.data.cells import CLASSES, PALETTE
from edgeunet.models import SegmentationNet, create_model
from edgeunet.models.checkpoints import save_checkpoint
from edgeunet.models.summary import count
from edgeunet.pruning import timing
from edgeunet.pruning.prune import PruneOptions
from edgeunet.pruning.timing import REFERENCE, Timer

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


def saved_shallow(folder: Path) -> Path:
    """A checkpoint of few but wide layers, for `to_latency`."""
    return saved(folder, "unetpp", depth=1, width=32)


def to_latency(source: Path, data: Path, *, epochs: int, share: float = 0.5) -> PruneOptions:
    return PruneOptions("unetpp", str(source), to_latency=share, data=data, finetune_epochs=epochs)


class Counted:
    """A call that is never timed. cost: what it counts for."""

    def __init__(self, cost: float) -> None:
        self.cost = cost

    def __call__(self) -> None:
        """Do nothing."""


def count_costs(monkeypatch: pytest.MonkeyPatch, cost: Callable[[SegmentationNet], float]) -> None:
    """Let nets take what a function says, instead of time, on ONNX Runtime in FP32."""

    @contextmanager
    def opened(timer: Timer, net: SegmentationNet) -> Iterator[Counted]:
        yield Counted(cost(net))

    monkeypatch.setattr(Timer, "opened", opened)
    monkeypatch.setattr(timing, "ratio_of", lambda call, other: call.cost / other.cost)
    monkeypatch.setattr(
        "edgeunet.pruning.prune.median_latencies",
        lambda calls: {name: call.cost for name, call in calls.items()},
    )
    monkeypatch.setattr("edgeunet.pruning.rounds.fastest_engine", lambda *given, **more: REFERENCE)


def arithmetic(net: SegmentationNet) -> float:
    """Operations of a net for 64x64, in thousands."""
    return 1e6 * count(net, height=64, width=64).gflops


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())
