"""Our own nets, at one depth or several, and the ensemble of their heads."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from copy import deepcopy
from dataclasses import replace
from pathlib import Path

from edgeunet.bundle.bundle import CHECKPOINT_NAME
from edgeunet.bundle.card import Card
from edgeunet.bundle.manifest import InputSpec, Kept
from edgeunet.catalogue import WEIGHTS_DIR
from edgeunet.data import cells
from edgeunet.data.fit import Frame
from edgeunet.errors import UsageError
from edgeunet.models import SegmentationNet, UNetPP, save_checkpoint
from edgeunet.models.checkpoints import Checkpoint, has_card
from edgeunet.models.depth import prune_depth
from edgeunet.parity.torch_reference import TorchReference

from ..graphs.trace import trace
from ..options import ExportOptions, for_the_net
from .base import Origin
from .distance import distance_of

NetAndCard = tuple[SegmentationNet, Card]


class VariantOrigin(TorchReference, Origin):
    """One of our nets.

    Args:
        weights: how the manifest names them.
    """

    kept: Kept = "checkpoint"
    packages = ("torch",)

    def __init__(self, net: SegmentationNet, card: Card, *, weights: str) -> None:
        super().__init__(net, card)
        self.weights = weights
        if net.cgm is not None and card.gate is None:
            self.notes.append(
                "the gate is not calibrated and stays unused; `edgeunet gate` calibrates it"
            )

    def write_graph(self, path: Path) -> None:
        """See `Origin`."""
        spec = self.card.input
        trace(self.net, path, height=spec.height, width=spec.width, channels=len(spec.channels))

    def save(self, folder: Path) -> None:
        """See `Origin`."""
        save_checkpoint(folder / CHECKPOINT_NAME, self.net, self.card)

    def distance(self, frames: Iterable[Frame], spec: InputSpec) -> float:
        """See `Origin`."""
        return distance_of(self.net, self.net.encode, frames, spec)


def open_variants(
    model: str, options: ExportOptions, *, report: Callable[[str], None]
) -> list[VariantOrigin]:
    """The nets that the options choose, the whole one last; their cards have the chosen size.

    Raises:
        See `Checkpoint.open`, `cut_depths`, `prune_depth` and `ensemble_of`. ShapeError: a size
        that the net does not take.
    """
    weights = options.weights or cells.NAME
    if not has_card(weights, model):
        options = for_the_net(options)
    source = Checkpoint.open(
        weights,
        model,
        num_classes=options.num_classes,
        size=options.size,
        preparation=options.preparation,
        raw=options.raw,
    )
    net, card = source.net, source.card
    nets = [(net, card)]
    if options.depths:
        nets = cut_depths(net, card, options.depths, report=report)
    elif options.depth is not None:
        nets = [prune_depth(net, card, depth=options.depth, report=report)]
    if options.ensemble:
        nets = [ensemble_of(net, card) for net, card in nets]
    for net, _ in nets:
        net.check_size(card.input.height, card.input.width)
    name = weights if source.path.parent == WEIGHTS_DIR else source.path.stem
    return [VariantOrigin(net, card, weights=name) for net, card in nets]


def cut_depths(
    net: SegmentationNet, card: Card, depths: tuple[int, ...], *, report: Callable[[str], None]
) -> list[NetAndCard]:
    """The nets that end at these depths, and their cards, the shallowest first.

    Raises:
        UsageError: fewer than two depths, a repeated depth, a net with a gate, or see
            `prune_depth`.
        CheckpointError: see `prune_depth`.
    """
    listed = ",".join(map(str, depths)) or "empty"
    if len(depths) < 2:
        raise UsageError(
            f"depths is {listed}; expected two or more, to switch between. Pass --depth for a "
            "bundle of one depth."
        )
    if len(set(depths)) < len(depths):
        raise UsageError(f"depths is {listed}; expected each depth once.")
    if isinstance(net, UNetPP) and net.cgm is not None:
        raise UsageError(
            f"{card.model} has a gate, which reads the deepest feature: shallower depths would run "
            "without it. Export one depth with --depth, or weights without a gate."
        )
    return [prune_depth(net, card, depth=depth, report=report) for depth in sorted(depths)]


def ensemble_of(net: SegmentationNet, card: Card) -> tuple[SegmentationNet, Card]:
    """A copy of a U-Net++ that outputs the mean of its heads, and its card without metrics.

    Zhou et al., arXiv 1912.05074, section 3.3: slower than one head, and more accurate.

    Raises:
        UsageError: another variant, or a net with only one head.
    """
    if not isinstance(net, UNetPP) or len(net.columns) < 2:
        raise UsageError(
            f"this {card.model} has no ensemble, because it has one head. Use a unetpp that was "
            "trained with deep supervision and is not pruned."
        )
    averaging = deepcopy(net)
    averaging.ensemble = True
    arguments = {name: value for name, value in card.arguments.items() if name != "head"}
    return averaging, replace(card, arguments={**arguments, "ensemble": True}, metrics={})
