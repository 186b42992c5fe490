"""Opens what a bundle can still be compared with."""

from __future__ import annotations

from ..bundle.bundle import Bundle
from ..bundle.card import Card
from ..bundle.manifest import flavour_file
from ..runtime.backends.ort import OrtNet
from ..runtime.backends.parts import Graph
from ..runtime.frames import NetOutputs
from .reference import Images, Reference


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
