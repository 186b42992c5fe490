"""What the stages of a bundle are compared with: a net, and its own way from a frame to a mask."""

from __future__ import annotations

from abc import ABC, abstractmethod

import numpy as np
import numpy.typing as npt

from ..bundle.card import Card
from ..data.fit import Frame
from ..data.windows import mask_of
from ..metrics import Mask
from ..runtime.frames import NetOutputs
from . import plain

Images = npt.NDArray[np.float32]


class Reference(ABC):
    """A net as it was before the export, with all that it does to a frame.

    Subclasses implement `infer`. Those whose origin prepares frames or decides pixels in a way of
    its own override `segment` too, so that parity compares with the whole of it.

    Args:
        card: classes, input and gate of the net.
        title: what reports call it, such as "PyTorch".
    """

    def __init__(self, card: Card, title: str) -> None:
        self.card = card
        self.title = title

    @abstractmethod
    def infer(self, images: Images) -> NetOutputs:
        """Net input (N, C, height, width) -> logits (N, classes, h, w), and the presence if any."""

    def decide(self, outputs: NetOutputs, size: tuple[int, int]) -> Mask:
        """Outputs for one frame -> class ids at the frame's own size (height, width)."""
        spec, gate = self.card.input, self.card.gate
        return plain.to_mask(outputs.logits, outputs.presence, spec, size, thresholds=gate)

    def prepare(self, frame: Frame) -> Images:
        """Frame (H, W, C) -> net input (1, C, height, width)."""
        return plain.to_input(frame, self.card.input)

    def whole(self, frame: Frame) -> Images:
        """Frame (H, W, C) -> what windows are cut from, (C, h, w), see `plain.to_whole`."""
        return plain.to_whole(frame, self.card.input)

    def on_windows(self, whole: Images, frame: Frame) -> Mask:
        """Class ids (H, W) of a frame by windows that are cut from `whole`."""
        return mask_of(lambda images: self.infer(images).logits, whole, frame, self.card.input)

    def segment(self, frame: Frame) -> tuple[NetOutputs, Mask]:
        """Frame (H, W, C) -> the net's outputs, and class ids (H, W).

        Of a net that runs on windows the outputs are those of the window in the middle.
        """
        outputs = self.infer(self.prepare(frame))
        if self.card.input.window is not None:
            return outputs, self.on_windows(self.whole(frame), frame)
        return outputs, self.decide(outputs, (frame.shape[0], frame.shape[1]))
