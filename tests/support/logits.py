"""Logits and targets for tests of the losses."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional

from edgeunet.metrics import IGNORE


def random_batch(
    seed: int, *, count: int = 2, classes: int = 4, side: int = 6, ignored: float = 0.3
) -> tuple[Tensor, Tensor]:
    """Logits (N, C, side, side) and a target with a share of ignored pixels."""
    generator = torch.Generator().manual_seed(seed)
    logits = 3 * torch.randn(count, classes, side, side, generator=generator)
    target = torch.randint(0, classes, (count, side, side), generator=generator)
    target[torch.rand(target.shape, generator=generator) < ignored] = IGNORE
    return logits, target


def one_hot_dice(probability: Tensor, target: Tensor) -> Tensor:
    """1 - mean over present classes of 2 sum(p t) / (sum p² + sum t²), on one-hot planes t."""
    scores = []
    counted = target != IGNORE
    for c in range(probability.shape[1]):
        truth = (target == c).double()[counted]
        guess = probability[:, c].double()[counted]
        if truth.any():
            scores.append(2 * (guess * truth).sum() / (guess**2).sum().add((truth**2).sum()))
    return 1 - torch.stack(scores).mean()


def certain(target: Tensor, classes: int, *, shift: int = 0) -> Tensor:
    """Logits (N, C, H, W) that are certain of the target, or of the class `shift` after it."""
    ids = (target.where(target != IGNORE, 0) + shift) % classes
    return 100 * functional.one_hot(ids, classes).movedim(-1, 1).float()


def plain(logits: Tensor, target: Tensor) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.int64]]:
    """Probabilities (M, C) and true ids (M,) of the pixels that count, FP64."""
    counted = (target != IGNORE).numpy()
    values = logits.double().movedim(1, -1).numpy()[counted]
    powers = np.exp(values - values.max(1, keepdims=True))
    return powers / powers.sum(1, keepdims=True), target.numpy()[counted]


def at_truth(logits: Tensor, target: Tensor) -> npt.NDArray[np.float64]:
    probability, ids = plain(logits, target)
    return probability[np.arange(len(ids)), ids]
