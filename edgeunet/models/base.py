"""What all variants share: encode, decode, heads, and the gate on the deepest feature."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from ..errors import ShapeError

HEADS = ("head.", "heads.")
"""How the keys of the heads begin, in every variant."""

ENCODER = "encoder."
"""How the keys of an encoder begin, in variants that have one apart from their decoder."""

PER_CLASS = (*HEADS, "cgm.")
"""How the keys of all layers begin whose output channels are the classes, in every variant."""


class NetOutput(NamedTuple):
    """What a net says about a batch.

    heads: one or more logits (N, C, h_i, w_i). Deep supervision gives several, the one that
        inference uses first. `SegmentationNet.select` makes one of them.
    scores: (N, C, h, w), what the gate says of each class at each place of the deepest feature, as
        logits; None without a gate.

    Example:
        >>> import torch
        >>> from edgeunet import create_model
        >>> heads, scores = create_model("unet", num_classes=2).run(torch.zeros(1, 3, 32, 32))
    """

    heads: tuple[Tensor, ...]
    scores: Tensor | None

    @property
    def presence(self) -> Tensor | None:
        """(N, C) probability that a class appears in the image, or None without a gate."""
        return None if self.scores is None else presence_of(self.scores)


def highest_of(scores: Tensor) -> Tensor:
    """Scores of a gate (N, C, h, w) -> those that decide (N, C), logits."""
    return functional.adaptive_max_pool2d(scores, 1).flatten(1)


def presence_of(scores: Tensor) -> Tensor:
    """Scores of a gate (N, C, h, w) -> probabilities (N, C); FP32 also for scores in BF16."""
    highest = highest_of(scores)
    if highest.dtype == torch.bfloat16:  # which would round 0.999 to 1; a cast is a node in a graph
        highest = highest.float()
    return highest.sigmoid()


class ClassificationGuidedModule(nn.Module):
    """The gate (CGM): tells from the deepest feature which classes the image contains.

    Huang et al., "UNet 3+: A Full-Scale Connected UNet for Medical Image Segmentation",
    ICASSP 2020 (arXiv 2004.08790), section 2.3: dropout, 1x1 convolution, and, in `presence_of`,
    adaptive max pooling and sigmoid. The paper's module answers for one organ. This one answers for
    every class, so that the gate can close single classes.
    """

    def __init__(self, in_channels: int, num_classes: int, *, dropout: float = 0.5) -> None:
        super().__init__()
        self.dropout = nn.Dropout(dropout)
        self.classify = nn.Conv2d(in_channels, num_classes, kernel_size=1)

    def forward(self, deepest: Tensor) -> Tensor:
        """(N, in_channels, h, w) -> scores (N, num_classes, h, w), logits."""
        scores: Tensor = self.classify(self.dropout(deepest))
        return scores


class SegmentationNet(nn.Module, ABC):
    """A U-shaped net: `encode` to a pyramid, `decode` to heads.

    Subclasses implement `encode` and `decode`. The encoder can run alone, so that a closed gate
    skips the decoder.

    size_multiple: `predict` takes images whose height and width are multiples of it.
    margin: pixels by which the heads of `run` are smaller than the image, on every side.

    Example:
        >>> from edgeunet import create_model
        >>> create_model("unet", num_classes=2, width=4).check_size(352, 480)
    """

    size_multiple: int = 1
    margin: int = 0

    def __init__(self, *, deepest_channels: int, num_classes: int, cgm: bool) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.cgm = ClassificationGuidedModule(deepest_channels, num_classes) if cgm else None

    @abstractmethod
    def encode(self, image: Tensor) -> list[Tensor]:
        """Features of the image (N, in_channels, H, W), finest first, deepest last."""

    @abstractmethod
    def decode(self, features: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Heads from the features of `encode`; see `NetOutput.heads`."""

    def select(self, heads: Sequence[Tensor]) -> Tensor:
        """Logits for inference from the heads of `decode`: the first head."""
        return heads[0]

    def check_input(self, height: int, width: int) -> None:
        """ShapeError if `run` cannot take an image of this size."""
        step = self.size_multiple
        if height % step or width % step:
            raise ShapeError(
                f"image is {height}x{width}; {type(self).__name__} needs multiples of {step}."
            )

    def check_size(self, height: int, width: int) -> None:
        """ShapeError if `predict` cannot take an input of this size; names the next that it can."""
        step = self.size_multiple
        if height < 1 or width < 1 or height % step or width % step:
            near = "x".join(str(max(step, -(-side // step) * step)) for side in (height, width))
            raise ShapeError(
                f"size is {height}x{width}; {type(self).__name__} needs multiples of {step}. Pass "
                f"--size {near}."
            )

    def run(self, image: Tensor) -> NetOutput:
        """All heads and the gate, for training."""
        features = self.encode(image)
        scores = self.cgm(features[-1]) if self.cgm is not None else None
        return NetOutput(self.decode(features), scores)

    def run_whole(self, image: Tensor) -> NetOutput:
        """`run` for an image that ends at its borders: no margin is lost."""
        return self.run(image)

    def predict(self, image: Tensor) -> tuple[Tensor, Tensor | None]:
        """Logits (N, C, h, w) that inference uses, and presence (N, C) or None."""
        output = self.run_whole(image)
        return self.select(output.heads), output.presence

    def forward(self, image: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        """`predict` without the None, as an exported graph returns it."""
        logits, presence = self.predict(image)
        return logits if presence is None else (logits, presence)
