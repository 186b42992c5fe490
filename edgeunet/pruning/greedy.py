"""Which channels to remove for a wanted saving of time: those that matter least per time saved.

Channels go in steps that leave what kernels are fast with. A round leaves at least half of each
group of coupled channels, because the time that halves save is what was measured. What a step saves
is interpolated.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

WIDE = 32
"""Groups of more channels than this keep a multiple of 16, others a multiple of 8.

Kernels for AVX-512 and AMX compute 16 channels at once.
"""


@dataclass(frozen=True)
class Cost:
    """What a group of coupled channels costs.

    importance: of each channel, what the loss says; comparable between groups. saved: by removing
    half of the channels, see `halved`, in any unit of time.
    """

    importance: Sequence[float]
    saved: float

    @property
    def per_channel(self) -> float:
        """Time that a channel takes; 0 if the group has none to spare."""
        channels = len(self.importance)
        spare = channels - halved(channels)
        return self.saved / spare if spare else 0.0


def step_of(channels: int) -> int:
    """Channels that a group keeps a multiple of, from its number of channels now."""
    return 16 if channels > WIDE else 8


def halved(channels: int) -> int:
    """The fewest channels that a round leaves of a group: at least half, and 8."""
    step = step_of(channels)
    return min(channels, math.ceil(channels / (2 * step)) * step)


def choose(costs: Sequence[Cost], goal: float) -> list[list[int]]:
    """Channels to remove from each group, so that about `goal` is saved.

    Step by step, those with the least importance per time saved. A larger goal removes more of the
    same order. If the groups cannot save that much in one round, all give what they may.

    Args:
        goal: in the unit of the costs.

    Returns:
        Indices by group, the least important first.

    Example:
        >>> from edgeunet.pruning.greedy import Cost, choose
        >>> removed = choose([Cost([1.0] * 16, saved=2.0), Cost([9.0] * 16, saved=2.0)], goal=1.5)
        >>> [len(channels) for channels in removed]
        [8, 0]
    """
    steps = [list(_steps(cost)) for cost in costs]
    removed: list[list[int]] = [[] for _ in costs]
    while goal > 0:
        open_groups = [index for index, left in enumerate(steps) if left]
        if not open_groups:
            break
        best = min(open_groups, key=lambda index: steps[index][0].price)
        step = steps[best].pop(0)
        removed[best] += step.channels
        goal -= step.saved
    return removed


@dataclass(frozen=True)
class _Step:
    """Channels of a group that go together. price: importance lost per time saved."""

    channels: list[int]
    saved: float
    price: float


def _steps(cost: Cost) -> Iterator[_Step]:
    """The steps of a group down to its half, in their order; none if that saves no time."""
    if cost.per_channel <= 0:
        return
    order = [int(index) for index in np.argsort(cost.importance, kind="stable")]
    left, end, step = len(order), halved(len(order)), step_of(len(order))
    while left > end:
        after = (left - 1) // step * step
        channels = order[len(order) - left : len(order) - after]
        saved = cost.per_channel * len(channels)
        lost = math.fsum(cost.importance[index] for index in channels)
        yield _Step(channels, saved, lost / saved)
        left = after
