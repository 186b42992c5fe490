"""U-Net++'s accurate mode: the mean of all heads instead of one."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import replace

from edgeunet.errors import UsageError
from edgeunet.models import SegmentationNet, UNetPP
from edgeunet.models.checkpoints import Card


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
