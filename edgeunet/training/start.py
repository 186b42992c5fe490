"""Start a run from a checkpoint: what it tells about the net, and its weights."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import nn

from ..errors import printable
from ..models import Card, Checkpoint, SegmentationNet
from ..models.backbone import BackboneUNet
from ..models.base import ENCODER, PER_CLASS
from ..models.checkpoints import has_card
from ..models.foreign import judge_encoder, load_encoder
from ..models.state_dict import load_weights, read_tensors, shapes_of
from ..models.structure import Structure

_log = logging.getLogger(__name__)


def structure_for(card: Card, *, num_classes: int) -> Structure | None:
    """Channels of the layers of a pruned net, with so many classes; None for a regular net."""
    if card.structure is None:
        return None
    return {
        name: (before, num_classes if f"{name}.".startswith(PER_CLASS) else after)
        for name, (before, after) in card.structure.items()
    }


def load_start(net: SegmentationNet, start: Checkpoint, classes: Sequence[str]) -> None:
    """Copy a checkpoint's weights into a net that is to be trained.

    Heads and gate keep their fresh weights if the checkpoint lacks them or has other classes. If it
    has another decoder on the same encoder, all but the stages that both encoders have is fresh.

    Args:
        classes: of the net, by id.

    Raises:
        CheckpointError: the rest of the net differs in any layer.
    """
    given, ours = start.net.state_dict(), net.state_dict()
    if _has_other_decoder(start, net):
        # A lighter decoder may also leave out the last stages of the encoder.
        tensors = {
            name: given.get(name, fresh) if name.startswith(ENCODER) else fresh
            for name, fresh in ours.items()
        }
        load_weights(net, tensors, source=str(start.path))
        return
    tensors = {name: tensor for name, tensor in given.items() if not name.startswith(PER_CLASS)}
    others = _has_others(start, classes)
    for name, fresh in ours.items():
        if name.startswith(PER_CLASS):
            kept = fresh if others else given.get(name, fresh)
            tensors[name] = kept if kept.shape == fresh.shape else fresh
    load_weights(net, tensors, source=str(start.path))


def tell_of_fresh(net: SegmentationNet, start: Checkpoint, classes: Sequence[str]) -> None:
    """Warn of layers that do not begin with a checkpoint's weights, see `load_start`."""
    path = printable(start.path)
    if _has_other_decoder(start, net):
        _log.warning("all but the encoder starts anew: %s has another decoder.", path)
    elif _has_others(start, classes):
        known, ours = (", ".join(map(printable, names)) for names in (start.card.classes, classes))
        text = "the heads start anew: %s has the classes %s, and the data set has %s."
        _log.warning(text, path, known, ours)


def _has_others(start: Checkpoint, classes: Sequence[str]) -> bool:
    """Whether weights are of other classes; without a card, only their number is known."""
    known = start.card.classes
    return known != tuple(classes) if has_card(start.path) else len(known) != len(classes)


def _has_other_decoder(start: Checkpoint, net: SegmentationNet) -> bool:
    """Whether a checkpoint has a net's encoder, but another decoder on it."""
    given = start.net
    if not isinstance(net, BackboneUNet) or not isinstance(given, BackboneUNet):
        return False
    same = net.encoder_name == given.encoder_name
    return same and shapes_of(net.decoder) != shapes_of(given.decoder)


def load_encoder_file(net: SegmentationNet, checkpoint: Path) -> dict[str, str]:
    """Copy the encoder of a published classifier into a net; see `load_encoder`."""
    tensors = read_tensors(checkpoint, judge_encoder)
    return load_encoder(net, tensors, source=str(checkpoint))


_SAFE_CHANNELS = 16


def training_format(net: nn.Module, device: torch.device) -> torch.memory_format:
    """Channels last, which is faster, unless PyTorch would write beyond its memory.

    On the CPU it does so in the backward pass of a strided 1x1 convolution with fewer than 16 input
    channels, as in the shortcuts of a narrow Residual U-Net (torch 2.13 with oneDNN on AVX-512: a
    crash within a few steps).
    """
    strided = any(
        isinstance(module, nn.Conv2d)
        and module.kernel_size == (1, 1)
        and module.stride != (1, 1)
        and module.in_channels < _SAFE_CHANNELS
        for module in net.modules()
    )
    unsafe = device.type == "cpu" and strided
    return torch.contiguous_format if unsafe else torch.channels_last
