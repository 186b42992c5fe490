"""Variants of a U-Net++ to export: several depths, and the ensemble of its heads."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from dataclasses import replace

from edgeunet.bundle.card import Card
from edgeunet.errors import UsageError
from edgeunet.models import SegmentationNet, UNetPP
from edgeunet.models.depth import prune_depth

NetAndCard = tuple[SegmentationNet, Card]


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
