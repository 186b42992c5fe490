"""Layers that go back to float until INT8 loses no more than it may."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from edgeunet.parity import Fallback

from .sensitivity import Layer


@dataclass(frozen=True)
class Placement:
    """What runs where. nodes: names of those in INT8. loss: points that are still lost."""

    nodes: tuple[str, ...]
    fallbacks: tuple[Fallback, ...]
    loss: float


def fall_back(
    ranked: Iterable[tuple[Layer, float]],
    nodes: Sequence[str],
    loss_of: Callable[[Sequence[str]], float],
    *,
    allowed: float,
    fewest: int = 0,
) -> Placement:
    """Give layers back to float, the costliest first, until the loss is allowed or none is left.

    A layer whose fallback wins nothing back stays in INT8.

    Args:
        ranked: layers and their costs, see `rank_layers`.
        nodes: names of all nodes that may run in INT8.
        loss_of: points lost with exactly these nodes in INT8.
        allowed: points.
        fewest: nodes that must stay in INT8; the search ends in front of the layer that would
            leave fewer.
    """
    kept, fallbacks = list(nodes), []
    loss = loss_of(kept)
    for layer, cost in ranked if loss > allowed else ():
        fewer = [name for name in kept if name not in layer.readers]
        if len(fewer) == len(kept):
            continue  # its readers went with other layers
        if len(fewer) < fewest:
            break
        left = loss_of(fewer)
        if left < loss:
            fallbacks.append(Fallback(layer.name, cost, loss - left))
            kept, loss = fewer, left
        if loss <= allowed:
            break
    return Placement(tuple(kept), tuple(fallbacks), loss)
