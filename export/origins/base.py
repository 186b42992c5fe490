"""Origins: nets as they come, each with its own way from a frame to a mask."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Iterable
from pathlib import Path

from edgeunet.bundle.card import Card
from edgeunet.bundle.manifest import InputSpec, Kept
from edgeunet.data.fit import Frame
from edgeunet.parity.reference import Reference


class Origin(Reference):
    """A net that becomes a bundle, and what each stage of the bundle is compared with.

    Args:
        card: classes, input and gate of the net.
        title: what reports call it, such as "PyTorch".

    kept: what the bundle keeps of it to be compared with later. packages: those whose versions the
        manifest tells, beside the export's own. weights: how the manifest names them.
    """

    kept: Kept = "graph"
    packages: tuple[str, ...] = ()

    def __init__(self, card: Card, title: str, *, weights: str = "memory") -> None:
        super().__init__(card, title)
        self.weights = weights
        self.notes: list[str] = []
        """What a user should know about how it was opened; the export tells it first."""

    @abstractmethod
    def write_graph(self, path: Path) -> None:
        """Write the reference graph, `image` (batch, C, H, W) -> `logits` (batch, classes, h, w).

        Raises:
            ExportError: a net that has no such graph.
        """

    def save(self, folder: Path) -> None:
        """Write what `kept` says into the bundle's folder. The graph is there already."""

    def distance(self, frames: Iterable[Frame], spec: InputSpec) -> float:
        """How unlike the training data frames are, nats, see `distance_of`; NaN if unknown."""
        return math.nan
