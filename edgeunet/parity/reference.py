"""What the stages of a bundle are compared with: a net, and its own way from a frame to a mask."""

from __future__ import annotations

from abc import ABC, abstractmethod

import numpy as np
import numpy.typing as npt

from ..bundle.bundle import Bundle
from ..bundle.card import Card
from ..bundle.manifest import flavour_file
from ..data.fit import Frame
from ..data.windows import mask_of
from ..metrics import Mask
from ..runtime.backends.ort import OrtNet
from ..runtime.backends.parts import Graph
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


class GraphReference(Reference):
    """A graph with the inputs and outputs that bundles have, on ONNX Runtime."""

    def __init__(self, graph: Graph, card: Card, title: str) -> None:
        super().__init__(card, title)
        self._net = OrtNet(graph)

    def infer(self, images: Images) -> NetOutputs:
        """See `Reference`."""
        return self._net.infer(images)


def open_reference(bundle: Bundle) -> Reference:
    """What a bundle can still be compared with: its checkpoint, or else its FP32 graph.

    The export compared that graph with the net as it came. The golden frames keep the masks of
    that net.

    Raises:
        MissingDependencyError: a checkpoint, but no PyTorch.
    """
    manifest = bundle.manifest
    if manifest.reference == "checkpoint":
        from .torch_reference import open_checkpoint  # PyTorch is not always there

        return open_checkpoint(bundle.root)
    card = Card(
        model=manifest.model,
        arguments=manifest.arguments,
        classes=manifest.classes,
        palette=manifest.palette,
        input=manifest.input,
        data="unknown",
        gate=manifest.gate,
    )
    path = bundle.root / flavour_file("fp32")
    return GraphReference(bundle.file(path), card, "its FP32 graph")
