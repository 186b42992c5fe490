"""What all variants share: encode, decode, heads, and the gate on the deepest feature."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import NamedTuple

from torch import Tensor, nn

from ..errors import ShapeError
from .cgm import ClassificationGuidedModule


class NetOutput(NamedTuple):
    """What a net says about a batch.

    heads: one or more logits (N, C, h_i, w_i); several under deep supervision, the one that
        inference uses first. `SegmentationNet.select` makes them one.
    presence: (N, C) probability that a class appears in the image, or None without a gate.
    """

    heads: tuple[Tensor, ...]
    presence: Tensor | None


class SegmentationNet(nn.Module, ABC):
    """A U-shaped net: `encode` to a pyramid, `decode` to heads.

    Subclasses set `size_multiple` (height and width of `predict` must be multiples of it) and
    implement `encode` and `decode`; the encoder stands alone so that a closed gate can skip the
    decoder. `margin` is what the heads of `run` lack of the image on every side, in pixels.
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
        """ShapeError where `run` cannot take an image of this size."""
        step = self.size_multiple
        if height % step or width % step:
            raise ShapeError(
                f"image is {height}x{width}; {type(self).__name__} needs multiples of {step}."
            )

    def run(self, image: Tensor) -> NetOutput:
        """All heads and the gate, for training."""
        features = self.encode(image)
        presence = self.cgm(features[-1]) if self.cgm is not None else None
        return NetOutput(self.decode(features), presence)

    def run_whole(self, image: Tensor) -> NetOutput:
        """`run` for an image that ends at its borders: no margin is lost."""
        return self.run(image)

    def predict(self, image: Tensor) -> tuple[Tensor, Tensor | None]:
        """Logits (N, C, h, w) that inference uses, and presence (N, C) or None."""
        heads, presence = self.run_whole(image)
        return self.select(heads), presence

    def forward(self, image: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        """`predict` without the None, as a graph has it."""
        logits, presence = self.predict(image)
        return logits if presence is None else (logits, presence)
