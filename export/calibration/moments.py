"""What batch normalisation remembers of the training data, against what frames show."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from edgeunet.bundle.manifest import InputSpec
from edgeunet.models import SegmentationNet
from edgeunet.runtime.preprocess import Frame, Preprocessor

LAYERS = 8
"""Normalisations looked at, the first of the encoder: exposure fades with depth, less so what is
no picture of the training's kind."""


@dataclass
class _Moments:
    count: int = 0
    total: Tensor | float = 0.0
    squares: Tensor | float = 0.0

    def add(self, values: Tensor) -> None:
        """Take in (N, C, H, W)."""
        exact = values.double()
        self.count += exact.numel() // exact.shape[1]
        self.total = self.total + exact.sum((0, 2, 3))
        self.squares = self.squares + exact.square().sum((0, 2, 3))


@torch.inference_mode()
def distance(net: SegmentationNet, frames: Iterable[Frame], spec: InputSpec) -> float:
    """Distance of frames from what the net was trained on; NaN for a net without statistics.

    The inputs of the first `LAYERS` batch normalisations of the encoder are compared with the
    running mean and variance stored in them: relative entropy of two normal distributions, in nats,
    of each layer the channels' median, of those the mean. 0 where the frames are of the training's
    kind. Nothing is held but sums.
    """
    norms = [
        module
        for module in net.modules()
        if isinstance(module, nn.BatchNorm2d) and module.running_mean is not None
    ]
    seen: dict[nn.Module, _Moments] = {}  # in the order of the forward pass

    def note(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        if module in seen or len(seen) < LAYERS:
            seen.setdefault(module, _Moments()).add(inputs[0])

    hooks = [norm.register_forward_pre_hook(note) for norm in norms]
    try:
        prepare = Preprocessor(spec)
        for frame in frames:
            net.encode(torch.from_numpy(prepare([frame])))
    finally:
        for hook in hooks:
            hook.remove()
    layers = [_entropy(norm, seen[norm]) for norm in norms if norm in seen]
    return float(np.mean(layers)) if layers else math.nan


def _entropy(norm: nn.BatchNorm2d, moments: _Moments) -> float:
    """Median over the channels of the relative entropy, nats."""
    assert norm.running_mean is not None and norm.running_var is not None
    mean = torch.as_tensor(moments.total) / moments.count
    variance = torch.as_tensor(moments.squares) / moments.count - mean.square()
    trained = norm.running_var.double() + norm.eps
    ratio = (variance.clamp(min=0) + norm.eps) / trained
    shift = (mean - norm.running_mean).square() / trained
    return float(((ratio + shift - 1 - ratio.log()) / 2).median())
