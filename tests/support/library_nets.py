"""Nets of other people's libraries with random weights, in files as training code writes them."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from edgeunet.exporting.options import ExportOptions
from edgeunet.exporting.origins import open_origin
from edgeunet.exporting.origins.base import Origin

SIZE = (64, 96)


def randomised(net: nn.Module, head: nn.Conv2d, *, seed: int = 0) -> nn.Module:
    """The net in evaluation mode with random batch statistics, and logits that differ by pixel.

    Args:
        head: the last convolution, whose bias is set so that no class wins everywhere.
    """
    torch.manual_seed(seed)
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean = torch.randn_like(module.weight) * 0.1
            module.running_var = torch.rand_like(module.weight) + 0.5
    net.eval()
    first = next(module for module in net.modules() if isinstance(module, nn.Conv2d))
    seen: list[torch.Tensor] = []
    hook = head.register_forward_hook(lambda module, inputs, output: seen.append(output))
    with torch.no_grad():
        net(torch.randn(1, first.in_channels, *SIZE))
        hook.remove()
        head.bias -= seen[0].mean((0, 2, 3))
    return net


def smp_net(name: str, encoder: str = "resnet18", **arguments: Any) -> nn.Module:
    """A net of segmentation_models_pytorch, as the library initialises it but for `randomised`."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import segmentation_models_pytorch as smp

        torch.manual_seed(0)
        net = getattr(smp, name)(encoder, encoder_weights=None, **arguments)
    return randomised(net, net.segmentation_head[0])


def saved(net: nn.Module, path: Path, prefix: str = "", key: str | None = None) -> Path:
    """Write a state dict with a prefix before each key, and in a dict under `key`."""
    state: Any = {f"{prefix}{name}": tensor for name, tensor in net.state_dict().items()}
    torch.save(state if key is None else {key: state, "epoch": 3}, path)
    return path


def opened(model: str, weights: Path | None, *arch: str, **options: Any) -> Origin:
    """The origin of a net, as the command line opens it."""
    options = {"size": SIZE, **options}
    return open_origin(
        ExportOptions(model, None if weights is None else str(weights), arch=arch, **options)
    )


def frames(count: int, size: tuple[int, int]) -> list[npt.NDArray[np.uint8]]:
    """RGB frames (H, W, 3) of coloured blobs and noise."""
    rng = np.random.default_rng(0)
    small = rng.integers(0, 256, (count, size[0] // 8, size[1] // 8, 3))
    large = small.repeat(8, 1).repeat(8, 2) + rng.integers(-20, 21, (count, *size, 3))
    return list(large.clip(0, 255).astype(np.uint8))


def agreement(origin: Origin, frame: npt.NDArray[np.uint8]) -> float:
    """Share of the pixels in which the library's own way agrees with ours, at the frame's size."""
    outputs, mask = origin.segment(frame)
    assert mask.shape == frame.shape[:2]
    assert len(np.unique(mask)) > 1
    return float((mask == origin.decide(outputs, mask.shape)).mean())
