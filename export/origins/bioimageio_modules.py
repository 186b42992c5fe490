"""State dicts in BioImage.IO's packages, of nets that MONAI and segmentation_models_pytorch build.

Apart from `bioimageio_nets`, so that packages of ONNX weights need no PyTorch.
"""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from edgeunet.bundle.manifest import InputSpec
from edgeunet.errors import CheckpointError

from ..options import ExportOptions
from .arguments import Arguments
from .base import card_of, named_classes
from .bioimageio_steps import Clip, Head, Values
from .module import ModuleOrigin
from .monai import build_monai
from .outputs import chosen_output
from .smp import build_smp

_PACKAGES = {"monai": "monai", "smp": "segmentation-models-pytorch"}


class _Packaged(nn.Module):
    """A net with what clips its input, and with what decides on its output as logits."""

    def __init__(self, net: nn.Module, number: int, clip: Clip | None, head: Head) -> None:
        super().__init__()
        self.net = net
        self.number = number
        self.clip = clip
        self.channel = head.channel
        limit = 0.0 if head.threshold is None else head.threshold
        if head.sigmoid and head.threshold is not None:
            limit = _logit(head.threshold)
        self.limit = limit

    def forward(self, image: Tensor) -> Tensor:
        """Images (N, C, H, W) -> logits."""
        if self.clip is not None:
            image = image.clamp(self.clip.low, self.clip.high)
        found = _output(self.net(image), self.number)
        if self.channel is not None:
            found = found[:, self.channel : self.channel + 1]
        return found - self.limit if self.limit else found


def build(
    library: str, name: str, given: Arguments, path: Path, options: ExportOptions, spec: InputSpec
) -> nn.Module:
    """The net of a library with the weights in a file.

    Raises:
        CheckpointError: another number of channels than the description has. See `open_monai` and
            `open_smp` for others.
    """
    if library == "monai":
        net, channels, _ = build_monai(name, given, path, options)
    else:
        if given.get("activation") not in (None, "identity"):
            raise CheckpointError(
                f"its net ends with the activation {given['activation']!r}; expected it in the "
                "description's postprocessing."
            )
        net, arguments = build_smp(name, given, path)
        channels = arguments.get("in_channels", 3)
    if channels != len(spec.channels):
        raise CheckpointError(
            f"its net takes {channels} channels, its description has {len(spec.channels)}."
        )
    return net


@torch.inference_mode()
def answer(net: nn.Module, image: Values, number: int) -> Values:
    """An image (1, C, H, W) -> the output of that number."""
    found = _output(net(torch.from_numpy(np.ascontiguousarray(image, np.float32))), number)
    return np.asarray(found.numpy())


def origin(
    net: nn.Module,
    name: str,
    spec: InputSpec,
    clip: Clip | None,
    head: Head,
    number: int,
    names: tuple[str, ...],
) -> ModuleOrigin:
    """What becomes a bundle; see `PackagedNet.origin`."""
    count = 1 if head.channel is not None else head.channels
    card = card_of(name, named_classes(count, names, name), spec)
    found = ModuleOrigin(_Packaged(net, number, clip, head).eval(), card)
    found.packages = ("torch", _PACKAGES[name.partition(":")[0]])
    return found


def _output(found: object, number: int) -> Tensor:
    return chosen_output(found, str(number) if number else None)


def _logit(threshold: float) -> float:
    if not 0 < threshold < 1:
        raise CheckpointError(
            f"its sigmoid is compared with {threshold:g}; expected a number between 0 and 1."
        )
    return math.log(threshold / (1 - threshold))
