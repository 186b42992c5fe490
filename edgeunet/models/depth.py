"""Cut U-Net++ to a smaller depth: keep one of its heads and the nodes that it needs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from ..bundle.card import Card
from ..errors import CheckpointError, UsageError
from . import SegmentationNet, UNetPP, create_model
from .structure import resize, structure_of

_HEAD_CHOICE = ("head", "ensemble")  # arguments for nets with several heads


def prune_depth(
    net: SegmentationNet,
    card: Card,
    *,
    depth: int,
    report: Callable[[str], None] = lambda message: None,
) -> tuple[SegmentationNet, Card]:
    """The net of head X^{0,depth}, with bit-identical logits of that head, and its card.

    Zhou et al., "UNet++", DLMIA 2018 (arXiv 1807.10165), section 3.2 and figure 1c: the head at
    column `depth` does not use the nodes with i + j > depth, nor the other heads. A smaller depth
    also loses the gate, which reads the deepest feature.

    Args:
        net: a U-Net++ in evaluation mode; it is not changed.
        card: the net's card. The new card has no metrics, because the old ones are of another head.
        depth: 1 to the net's own depth.
        report: called with a message if the gate is lost.

    Raises:
        UsageError: another variant, or a depth that the net does not have.
        CheckpointError: the net has no head there, because it has no deep supervision.
    """
    if not isinstance(net, UNetPP):
        raise UsageError(
            f"depth is {depth}, but {card.model} has no depth to prune; unetpp has. Prune the "
            "channels of other variants: edgeunet prune --ratio."
        )
    _check_head(net, depth)
    gated = net.cgm is not None and depth == net.depth
    kept = {name: value for name, value in card.arguments.items() if name not in _HEAD_CHOICE}
    arguments = {**kept, "cgm": gated, "depth": depth, "deep_supervision": False}
    pruned = create_model(card.model, **arguments)
    if card.structure is not None:
        widths = {name: card.structure[name] for name in structure_of(pruned)}
        resize(pruned, widths, source="card")
    state = net.state_dict()
    pruned.load_state_dict({name: state[name] for name in pruned.state_dict()})
    record: dict[str, Any] = {"depth": depth, "of": net.depth}
    if net.cgm is not None and not gated:
        record["gate"] = "lost"
        report(
            f"the gate is lost: it reads the deepest feature of depth {net.depth}, which a net of "
            f"depth {depth} does not compute"
        )
    return pruned.eval(), replace(
        card,
        arguments=arguments,
        metrics={},
        training=pruned_training(card, record),
        structure=None if card.structure is None else structure_of(pruned),
        gate=card.gate if gated else None,
    )


def pruned_training(card: Card, record: dict[str, Any]) -> dict[str, Any]:
    """The card's training record, with one more pruning at the end of its list."""
    return {**card.training, "pruned": [*card.training.get("pruned", []), record]}


def _check_head(net: UNetPP, depth: int) -> None:
    if not 1 <= depth <= net.depth:
        raise UsageError(f"depth is {depth}; this unetpp has depths 1 to {net.depth}.")
    if str(depth) not in net.heads:
        raise CheckpointError(
            f"this unetpp has no head at depth {depth}, only at {', '.join(sorted(net.heads))}: it "
            "was trained without deep supervision. Train it with deep supervision, unetpp's "
            "default, so that every depth has a head."
        )
