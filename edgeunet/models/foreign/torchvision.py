"""Encoders of torchvision: `mobilenet_v2` for Mobile U-Net, `efficientnet_b0` for Eff-UNet."""

from __future__ import annotations

import re
from collections.abc import Mapping

from torch import Tensor

from ...errors import CheckpointError, UsageError
from ..base import SegmentationNet
from ..eff_unet import EffUNet
from ..mobile_unet import MobileUNet
from ..state_dict import without_counters

_ENCODERS: dict[type[SegmentationNet], str] = {
    EffUNet: "efficientnet_b0",
    MobileUNet: "mobilenet_v2",
}
_PREFIX = "features."
_FIRST = "features.0.0.weight"
_PARTS = ("weight", "bias", "running_mean", "running_var")
# After the last stage both have a 1x1 convolution and its norm for the classifier.
_UNUSED = ("weight", *_PARTS)


def judge_encoder(tensors: Mapping[str, Tensor]) -> float:
    """Whether a state dict is a classifier's, 0 or 1; `load_encoder` says what does not fit.

    Example:
        >>> import torch
        >>> from edgeunet.models.foreign import judge_encoder
        >>> judge_encoder({"features.0.0.weight": torch.zeros(32, 3, 3, 3)})
        1.0
    """
    return float(_FIRST in tensors)


def load_encoder(net: SegmentationNet, tensors: Mapping[str, Tensor], *, source: str) -> None:
    """Copy the `features.*` of a torchvision classifier into the encoder of a net, in place.

    The operators and their order are the same, with the same batch normalisation (epsilon 1e-5), so
    the encoder computes exactly the classifier's features. `classifier.*` and the 1x1 convolution
    before it are not used.

    Args:
        tensors: state dict of `mobilenet_v2` for `mobile_unet`, of `efficientnet_b0` for
            `eff_unet`. The published ones need a net of width 32 with three input channels.
        source: their file, for the errors.

    Raises:
        UsageError: the net has no such encoder.
        CheckpointError: names the first key that does not fit; the net is not changed.
    """
    if not isinstance(net, (EffUNet, MobileUNet)):
        raise UsageError(
            f"{type(net).__name__} takes no encoder weights; eff_unet takes those of "
            "torchvision's efficientnet_b0, and mobile_unet those of mobilenet_v2."
        )
    wanted = without_counters(net.encoder.state_dict())
    given = _features(tensors)
    misfit = (
        f"{source} does not fit the encoder of {type(net).__name__}, which takes the features of "
        f"torchvision's {_ENCODERS[type(net)]} at width 32: "
    )
    for theirs, ours in zip(given, wanted, strict=False):
        if theirs.rpartition(".")[2] != ours.rpartition(".")[2]:
            raise CheckpointError(f"{misfit}expected {ours}, got {theirs}.")
        if given[theirs].shape != wanted[ours].shape:
            raise CheckpointError(
                f"{misfit}{theirs} is {tuple(given[theirs].shape)} instead of "
                f"{tuple(wanted[ours].shape)}."
            )
    rest = [name.rpartition(".")[2] for name in given][len(wanted) :]
    if len(given) < len(wanted) or (rest and tuple(rest) != _UNUSED):
        raise CheckpointError(
            f"{misfit}expected {len(wanted)} tensors, and {len(_UNUSED)} that are not used; got "
            f"{len(given)} under {_PREFIX}*."
        )
    net.encoder.load_state_dict(
        {ours: given[theirs].float() for theirs, ours in zip(given, wanted, strict=False)},
        strict=False,
    )


def _features(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """`features.*` in the order of the forward pass, whatever the file's order: 2 before 10."""
    found = {n: t for n, t in without_counters(tensors).items() if n.startswith(_PREFIX)}
    return {name: found[name] for name in sorted(found, key=_order)}


def _order(name: str) -> tuple[list[int], int]:
    """Sort key: layers by number, the parts of a layer as in `nn.Module.state_dict`."""
    layer, _, part = name.rpartition(".")
    numbers = [int(digits) for digits in re.findall(r"\d+", layer)]
    return numbers, _PARTS.index(part) if part in _PARTS else len(_PARTS)
