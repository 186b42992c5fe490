"""The frames of a source that calibrate, and those that are held out to compare methods on."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from edgeunet.runtime.preprocess import Frame

from .selection import Descriptor, evenly, farthest_first
from .sources import Drawn, Source

CHOSEN = 32
"""Frames that calibrate: ranges settle before."""

HELD_OUT = 8
"""Frames to compare the methods on."""


@dataclass(frozen=True)
class Frames:
    """Frames of a source by number, ascending; iterating reads them anew, one at a time.

    sizes: (height, width) of each, pixels.
    """

    source: Source
    numbers: tuple[int, ...]
    sizes: tuple[tuple[int, int], ...]

    def __len__(self) -> int:
        return len(self.numbers)

    def __iter__(self) -> Iterator[Frame]:
        return self.source.read(self.numbers)

    def alike(self, count: int) -> list[Frame]:
        """At most `count` frames of the first one's size, evenly spaced."""
        pairs = zip(self.numbers, self.sizes, strict=True)
        same = [number for number, size in pairs if size == self.sizes[0]]
        return list(self.source.read(same[:: max(1, len(same) // count)][:count]))


@dataclass(frozen=True)
class Selection:
    """What became of a source.

    typical: a few frames as they come. chosen: a diverse few that calibrate. held_out: others, as
    they come, to compare methods on; the chosen ones where there are no others.
    """

    typical: Frames
    chosen: Frames
    held_out: Frames


def select(source: Source, candidates: Mapping[int, Descriptor]) -> Selection:
    """Choose `CHOSEN` frames farthest-first, but leave one in four of a short source.

    Which of several equal frames is chosen depends on their order, nothing else does.
    """
    numbers = list(candidates)
    vectors = np.stack([descriptor.vector for descriptor in candidates.values()])
    count = min(CHOSEN, len(numbers) - len(numbers) // 4)
    chosen = {numbers[row] for row in farthest_first(vectors, count)}
    others = [number for number in numbers if number not in chosen]

    def frames(taken: list[int]) -> Frames:
        return Frames(source, tuple(taken), tuple(candidates[n].size for n in taken))

    return Selection(
        typical=frames(evenly(numbers, 8)),
        chosen=frames(sorted(chosen)),
        held_out=frames(evenly(others, HELD_OUT) or sorted(chosen)),
    )


def drawn_selection(source: Drawn) -> Selection:
    """The first `CHOSEN` of frames that were drawn independently; the rest is held out."""
    sizes = [(frame.shape[0], frame.shape[1]) for frame in source.frames]

    def frames(start: int, stop: int) -> Frames:
        return Frames(source, tuple(range(start, stop)), tuple(sizes[start:stop]))

    count = min(CHOSEN, len(sizes))
    chosen = frames(0, count)
    return Selection(chosen, chosen, frames(count, len(sizes)))
