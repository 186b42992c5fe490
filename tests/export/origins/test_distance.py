"""The distance of frames from what batch normalisation saw in training."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pytest
import torch
from torch import nn

from edgeunet.bundle.manifest import InputSpec
from edgeunet.exporting.origins.distance import LAYERS, distance_of
from edgeunet.runtime.frames import Frame

AS_READ = InputSpec(64, 96, mean=(0.0,) * 3, std=(1.0,) * 3)
"""Values in 0..1."""


def normed(mean: Sequence[float], std: Sequence[float]) -> nn.Module:
    norm = nn.BatchNorm2d(3, eps=0.0)
    norm.running_mean = torch.tensor(mean)
    norm.running_var = torch.tensor(std).square()
    return norm.eval()


def distance(net: nn.Module, frames: list[Frame]) -> float:
    return distance_of(net, net, frames, AS_READ)


def test_net_without_batch_normalisation_has_none() -> None:
    assert math.isnan(distance(nn.Conv2d(3, 2, 1), [np.zeros((64, 96, 3), np.uint8)]))


def test_distance_is_the_relative_entropy_of_normal_distributions() -> None:
    frames = [
        np.random.default_rng(seed).integers(0, 256, (64, 96, 3), np.uint8) for seed in (0, 1)
    ]
    values = np.stack(frames).reshape(-1, 3) / 255
    ratio = values.var(0) / 0.09
    entropy = 0.5 * (ratio + (values.mean(0) - 0.2) ** 2 / 0.09 - 1 - np.log(ratio))
    found = distance(normed([0.2] * 3, [0.3] * 3), frames)
    assert found == pytest.approx(np.median(entropy), rel=1e-4)
    own = normed(values.mean(0).tolist(), values.std(0).tolist())
    assert distance(own, frames) == pytest.approx(0.0, abs=1e-6)


def test_net_runs_up_to_the_last_layer_that_is_compared() -> None:
    class Unreached(nn.Module):
        def forward(self, image: torch.Tensor) -> torch.Tensor:
            raise AssertionError("the rest of the net ran")

    frames = [np.full((64, 96, 3), level, np.uint8) for level in (0, 200)]
    norms = [normed([0.2] * 3, [0.3] * 3) for _ in range(LAYERS)]
    other = normed([9.0] * 3, [0.1] * 3)
    compared = distance(nn.Sequential(*norms), frames)
    assert distance(nn.Sequential(*norms, other, Unreached()), frames) == compared
