"""Another light for a batch of crops on a device: what `Light.apply` does for one."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from ...bundle.manifest import Levels
from .drawings import Drawings
from .images import mirrored
from .jpeg import compressed


def relit(crops: Tensor, drawn: Drawings, levels: Levels, depth: np.dtype[np.generic]) -> Tensor:
    """Crops (B, H, W, C), FP32, with the values of `depth` -> the same in the light drawn for each.

    They are changed in place. 8 bit is rounded after each change, as on the CPU.
    """
    black = levels[0]

    def change(which: Tensor, changed: Tensor) -> None:
        crops[which] = _rounded(changed) if depth == np.uint8 else changed

    which, shadows = drawn.shadow
    if len(which):
        factors = _shade(shadows, crops.shape[1], crops.shape[2])
        change(which, black + (crops[which] - black) * factors)
    which, kernels = drawn.blur
    if len(which):
        blurred = _blurred(_blurred(crops[which], kernels, 2), kernels, 1)
        crops[which] = (blurred + 0.5).floor_() if depth == np.uint8 else blurred
    crops = _exposed(crops, drawn.exposure[:, :, None, None], levels)
    if depth == np.uint8:
        crops = _rounded(crops)
    which, noise = drawn.noise
    if len(which):
        change(which, crops[which] + noise)
    which, steps = drawn.jpeg
    if len(which):
        crops[which] = compressed(crops[which], steps)
    if depth.kind == "f":
        return crops
    bounds = np.iinfo(depth)  # type: ignore[type-var]
    return crops.clamp_(bounds.min, bounds.max)


def _rounded(values: Tensor) -> Tensor:
    return values.round().clamp_(0, 255)


def _shade(shadows: Tensor, height: int, width: int) -> Tensor:
    """Factors (k, H, W, 1) of shadows (k, 4), see `Shadow.factors`."""
    darkest, angle, offset, softness = shadows[:, :, None, None].unbind(1)
    rows, columns = (torch.linspace(-1, 1, side, device=shadows.device) for side in (height, width))
    distance = rows[:, None] * angle.sin() + columns * angle.cos() - offset
    lit = (distance / softness + 0.5).clamp_(0, 1)
    return (darkest + (1 - darkest) * lit)[..., None]


def _blurred(crops: Tensor, kernels: Tensor, axis: int) -> Tensor:
    """Crops (k, H, W, C), each by its own kernel (k, n) along an axis, mirrored at the borders."""
    length, taps = crops.shape[axis], kernels.shape[1]
    places = torch.arange(length, device=crops.device) - taps // 2
    total = torch.zeros_like(crops)
    for tap, weight in enumerate(kernels.unbind(1)):
        shifted = crops.index_select(axis, mirrored(places + tap, length))
        total.addcmul_(shifted, weight[:, None, None, None])
    return total


def _exposed(crops: Tensor, exposure: Tensor, levels: Levels) -> Tensor:
    """Another gamma, brightness, tint and contrast; exposure (B, 2 + C, 1, 1)."""
    black, white = levels
    exponent, contrast, factors = exposure[:, :1], exposure[:, 1:2], exposure[:, 2:]
    light = (crops - black) / (white - black)
    # The sign stays: values may lie below black.
    light = light.abs().pow(exponent).copysign(light).mul_(factors.movedim(1, -1))
    mean = light.mean((1, 2, 3), keepdim=True)
    return ((light - mean) * contrast + mean) * (white - black) + black
