"""Channels of a net's layers: pruning changes them, and a card needs them to rebuild the net.

A structure maps the name of every convolution and batch normalisation to its channels (in, out).
Kernel sizes, strides and paddings are the variant's own.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import nn

from ..errors import CheckpointError

Structure = Mapping[str, tuple[int, int]]

_Conv = (nn.Conv2d, nn.ConvTranspose2d)


def structure_of(net: nn.Module) -> dict[str, tuple[int, int]]:
    """Channels (in, out) of each convolution and batch normalisation, in the net's order."""
    found: dict[str, tuple[int, int]] = {}
    for name, module in net.named_modules():
        if isinstance(module, _Conv):
            found[name] = (module.in_channels, module.out_channels)
        elif isinstance(module, nn.BatchNorm2d):
            found[name] = (module.num_features, module.num_features)
    return found


def resize(net: nn.Module, structure: Structure, *, source: str) -> None:
    """Give the layers the channels of `structure`; layers that change get fresh weights.

    Depthwise convolutions stay depthwise.

    Args:
        source: file of the structure, for the errors.

    Raises:
        CheckpointError: a layer that only one side has, or channels that a layer cannot have.
    """
    present = structure_of(net)
    if odd := sorted(set(present) ^ set(structure)):
        side = "does not name" if odd[0] in present else "names"
        raise CheckpointError(
            f"{source}: the structure {side} layer {odd[0]}; {type(net).__name__} has "
            f"{len(present)} layers, the structure {len(structure)}. Build the net with the "
            "arguments that the structure was made with."
        )
    for name, (before, after) in structure.items():
        layer = net.get_submodule(name)
        depthwise = isinstance(layer, nn.Conv2d) and layer.groups > 1
        fixed = depthwise or isinstance(layer, nn.BatchNorm2d)
        if min(before, after) < 1 or (fixed and before != after):
            raise CheckpointError(
                f"{source}: layer {name} has {before} channels in and {after} out; both must be "
                f"positive{' and equal' if fixed else ''}."
            )
        if present[name] != (before, after):
            net.set_submodule(name, _resized(layer, before, after).train(layer.training))


def _resized(layer: nn.Module, before: int, after: int) -> nn.Module:
    """A layer of the same kind with other channels and fresh weights."""
    with torch.device(next(layer.parameters()).device):
        if isinstance(layer, nn.BatchNorm2d):
            return nn.BatchNorm2d(after, eps=layer.eps, momentum=layer.momentum)
        assert isinstance(layer, _Conv)
        return type(layer)(
            before,
            after,
            layer.kernel_size,  # type: ignore[arg-type]
            layer.stride,  # type: ignore[arg-type]
            layer.padding,  # type: ignore[arg-type]
            groups=before if layer.groups > 1 else 1,
            bias=layer.bias is not None,
        )
