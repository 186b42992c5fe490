"""The reference of our own nets: PyTorch."""

from __future__ import annotations

from pathlib import Path

import torch

from ..bundle.bundle import CHECKPOINT_NAME
from ..bundle.card import Card
from ..data.fit import Frame
from ..metrics import Mask
from ..models import Checkpoint, SegmentationNet
from ..models.reference import to_input, to_mask, to_whole
from ..runtime.frames import NetOutputs
from .reference import Images, Reference


class TorchReference(Reference):
    """One of our nets, with its gate if it has one."""

    def __init__(self, net: SegmentationNet, card: Card) -> None:
        super().__init__(card, "PyTorch")
        self.net = net

    @torch.inference_mode()
    def infer(self, images: Images) -> NetOutputs:
        """See `Reference`."""
        logits, presence = self.net.predict(torch.from_numpy(images))
        return NetOutputs(logits.numpy(), None if presence is None else presence.numpy())

    def decide(self, outputs: NetOutputs, size: tuple[int, int]) -> Mask:
        """See `Reference`."""
        logits, presence = outputs
        return to_mask(
            torch.from_numpy(logits),
            None if presence is None else torch.from_numpy(presence),
            self.card.input,
            size,
            thresholds=self.card.gate,
        )

    def prepare(self, frame: Frame) -> Images:
        """See `Reference`."""
        return to_input(frame, self.card.input).numpy()

    def whole(self, frame: Frame) -> Images:
        """See `Reference`."""
        return to_whole(frame, self.card.input)[0].numpy()


def open_checkpoint(root: Path) -> TorchReference:
    """The checkpoint that a bundle holds."""
    opened = Checkpoint.open(root / CHECKPOINT_NAME)
    return TorchReference(opened.net, opened.card)
