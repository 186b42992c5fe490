"""Origins: nets as they come, each with its own way from a frame to a mask."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Iterable, Sequence
from pathlib import Path

from edgeunet.bundle.card import Card
from edgeunet.bundle.manifest import InputSpec, Kept
from edgeunet.data.fit import Frame
from edgeunet.data.palettes import default_palette
from edgeunet.errors import UsageError
from edgeunet.parity.reference import Reference

TWO_CLASSES = ("background", "foreground")
"""What one channel decides between."""


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
        self.frames: tuple[Frame, ...] = ()
        """Frames that came with it, fitted to the net; they become golden frames."""

    def make_graph(self) -> None:
        """Make what `write_graph` writes, as far as it is kept in memory, and complete the notes.

        The export calls it first, so that a net that has no graph is refused before frames are
        read.

        Raises:
            ExportError: see `write_graph`.
        """

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


def card_of(model: str, classes: Sequence[str], spec: InputSpec) -> Card:
    """A card for a net of which no more is known."""
    return Card(
        model=model,
        arguments={},
        classes=tuple(classes),
        palette=default_palette(len(classes)),
        input=spec,
        data="unknown",
    )


def named_classes(channels: int, names: Sequence[str], net: str) -> tuple[str, ...]:
    """Names of the classes of so many channels; one channel decides between two.

    Raises:
        UsageError: another number of names.
    """
    count = max(2, channels)
    if not names:
        return TWO_CLASSES if channels == 1 else tuple(f"class {each}" for each in range(count))
    given = (TWO_CLASSES[0], *names) if channels == len(names) == 1 else tuple(names)
    if len(given) != count:
        raise UsageError(
            f"{net} has {count} classes, got {len(names)} names: {', '.join(names)}. Pass one name "
            "for each."
        )
    return given
