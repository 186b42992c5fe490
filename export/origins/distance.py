"""How unlike the training data frames are, as the batch normalisation of a net tells."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from contextlib import suppress

import numpy as np
import torch
from torch import Tensor, nn

from edgeunet.bundle.manifest import InputSpec
from edgeunet.runtime.backends.preprocess import Preprocessor
from edgeunet.runtime.frames import Frame

LAYERS = 8
"""Number of normalisations compared, the first of the net: with depth the effect of exposure
fades, the effect of unfamiliar pictures less so."""


class _EnoughError(Exception):
    """Ends the forward pass: what follows is not compared."""


@torch.inference_mode()
def distance_of(
    net: nn.Module, run: Callable[[Tensor], object], frames: Iterable[Frame], spec: InputSpec
) -> float:
    """Distance of frames from the training data; NaN for a net without batch normalisation.

    Compares the inputs of the first `LAYERS` batch normalisations with their running
    mean and variance: the relative entropy of two normal distributions, in nats; the median over
    the channels of each layer, then the mean over the layers. 0 for frames like the training data.
    Only means are held in memory.

    Args:
        run: feeds the net with an image (1, C, H, W), or only its encoder.
    """
    norms = [
        module
        for module in net.modules()
        if isinstance(module, nn.BatchNorm2d) and module.running_mean is not None
    ]
    seen: dict[nn.Module, list[Tensor]] = {}  # in the order of the forward pass

    def note(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        if module not in seen and len(seen) == LAYERS:
            raise _EnoughError
        powers = (inputs[0], inputs[0].square())
        moments = torch.stack([power.mean((0, 2, 3), dtype=torch.float64) for power in powers])
        seen.setdefault(module, []).append(moments)

    hooks = [norm.register_forward_pre_hook(note) for norm in norms]
    try:
        prepare = Preprocessor(spec)
        for frame in frames:
            with suppress(_EnoughError):
                run(torch.from_numpy(prepare([frame])))
    finally:
        for hook in hooks:
            hook.remove()
    # All frames have the net's size: the mean of their means is that of all pixels.
    means = {norm: torch.stack(moments).mean(0) for norm, moments in seen.items()}
    layers = [_entropy(norm, means[norm]) for norm in norms if norm in means]
    return float(np.mean(layers)) if layers else math.nan


def _entropy(norm: nn.BatchNorm2d, moments: Tensor) -> float:
    """Median over the channels of the relative entropy, nats, from means (2, C) of x and x²."""
    assert norm.running_mean is not None and norm.running_var is not None
    mean, variance = moments[0], moments[1] - moments[0].square()
    trained = norm.running_var.double() + norm.eps
    ratio = (variance.clamp(min=0) + norm.eps) / trained
    shift = (mean - norm.running_mean).square() / trained
    return float(((ratio + shift - 1 - ratio.log()) / 2).median())
