"""The depths of a U-Net++ that one bundle carries."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from dataclasses import replace

from edgeunet.errors import UsageError
from edgeunet.models import SegmentationNet, UNetPP
from edgeunet.models.checkpoints import Card
from edgeunet.models.depth import prune_depth

Net = tuple[SegmentationNet, Card]


def cut_depths(
    net: SegmentationNet, card: Card, depths: tuple[int, ...], *, report: Callable[[str], None]
) -> list[Net]:
    """The nets of the heads at these depths, the shallowest first, and their cards.

    Raises:
        UsageError: fewer than two depths or one twice, a net with a gate, or see `prune_depth`.
        CheckpointError: see `prune_depth`.
    """
    _check_depths(depths)
    if isinstance(net, UNetPP) and net.cgm is not None:
        raise UsageError(
            f"{card.model} has a gate, which looks at the deepest feature: shallower depths would "
            "run without. Export one depth with --depth, or weights without a gate."
        )
    return [prune_depth(net, card, depth=depth, report=report) for depth in sorted(depths)]


def _check_depths(depths: tuple[int, ...]) -> None:
    """UsageError unless there are at least two depths, each of them once."""
    if len(depths) < 2:
        raise UsageError(
            f"depths is {_listed(depths)}; two or more were wanted, to switch between. A bundle of "
            "one depth comes from --depth."
        )
    if len(set(depths)) < len(depths):
        raise UsageError(f"depths is {_listed(depths)}; each was wanted once.")


def _listed(depths: tuple[int, ...]) -> str:
    return ",".join(map(str, depths)) or "empty"


def ensemble_of(net: SegmentationNet, card: Card) -> tuple[SegmentationNet, Card]:
    """A copy of a U-Net++ that answers with the mean of its heads, and its card without metrics.

    Zhou et al., arXiv 1912.05074, section 3.3: slower than one head, and more accurate.

    Raises:
        UsageError: another variant, or a net with one head only.
    """
    if not isinstance(net, UNetPP) or len(net.columns) < 2:
        raise UsageError(
            f"{card.model} with {len(net.columns) if isinstance(net, UNetPP) else 1} head has no "
            "ensemble; unetpp has, where it was trained with deep supervision and is not pruned."
        )
    averaging = deepcopy(net)
    averaging.ensemble = True
    arguments = {name: value for name, value in card.arguments.items() if name != "head"}
    return averaging, replace(card, arguments={**arguments, "ensemble": True}, metrics={})
