"""Calibration frames at a path, in two passes: all are described, then the chosen ones kept."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edgeunet.data.datasets import is_dataset, open_dataset, read_labels
from edgeunet.data.fit import Fit
from edgeunet.data.images import count_pages, decode, read_bytes
from edgeunet.errors import CalibrationError, SourceError, printable
from edgeunet.listing import MASK_FOLDERS, list_images_below
from edgeunet.metrics import Mask
from edgeunet.runtime.frames import Frame, SourceFrame
from edgeunet.runtime.sources import Frames
from edgeunet.steps import Count

from .selection import Descriptor, describe_frame, evenly, farthest_first, thinned

CANDIDATES = 512
"""Most frames of a source that are described, evenly spaced: 3 MB of descriptors."""

_log = logging.getLogger(__name__)

_WANTED = "Pass --calib a folder with a few dozen frames of the application, a data set or a video."


@dataclass(frozen=True)
class Candidates:
    """What the first pass over a source found.

    frames: where they are, for the second pass. fit: turns them into frames for the net. name: what
    a report calls them. descriptors: by the frame's number. pages: file and page of each, if the
    frames are images. mask: gives the class ids (H, W) of a frame by its number, None without
    labels.
    """

    frames: Frames
    fit: Fit
    name: str
    descriptors: dict[int, Descriptor]
    pages: dict[int, tuple[Path, int]] | None = None
    mask: Callable[[int], Mask] | None = None

    def take(self, numbers: Collection[int]) -> dict[int, Frame]:
        """Decode frames by number, a video up to the last of them: seeking is not always exact."""
        if self.pages is not None:
            return {number: _page(*self.pages[number], self.fit) for number in sorted(numbers)}
        taken = {}
        with self.frames.read() as source:
            for frame in source:
                if frame.index in numbers:
                    taken[frame.index] = self.fit(frame.image, frame.channels)
                if len(taken) == len(numbers):
                    break
        return taken


def describe_source(
    path: Path,
    *,
    num_classes: int,
    fit: Fit,
    layout: str | None = None,
    count: Count = lambda done, total: None,
) -> Candidates:
    """Describe at most `CANDIDATES` frames of images, a video, or a data set's training split.

    Images are those of a folder and of all folders in it, except `MASK_FOLDERS`.

    Args:
        fit: turns what is read into frames for the net.
        num_classes: the net's; a data set with another number has images for it, but no labels.
        layout: of a data set, see `open_dataset`.
        count: called with the number of images described, and of all.

    Raises:
        CalibrationError: not frames, no frames, or a camera. DatasetError: a damaged data set.
        SourceError: an image or a video that cannot be read. FrameError: one that does not fit.
    """
    if is_dataset(path, layout):
        return _of_dataset(path, layout, num_classes, fit, count)
    try:
        frames = _frames_below(path) or Frames.open(path)
    except SourceError as error:
        raise CalibrationError(f"{error} {_WANTED}") from None
    if frames.kind not in ("image", "folder", "glob"):

        def kept(frame: SourceFrame) -> tuple[int, Descriptor]:
            return frame.index, describe_frame(fit(frame.image, frame.channels), fit)

        with frames.read() if frames.kind != "live" else nullcontext() as source:
            if source is None or source.info.live:
                raise CalibrationError(f"{frames.name} cannot be read twice. {_WANTED}")
            described = thinned(source, CANDIDATES, kept=kept)
        return Candidates(frames, fit, frames.name, dict(described))
    return _of_images(frames, fit, frames.name, count)


def _of_dataset(
    path: Path, layout: str | None, num_classes: int, fit: Fit, count: Count
) -> Candidates:
    dataset = open_dataset(path, layout)
    samples = dataset.samples("train")
    frames = Frames(str(path), "dataset", tuple(sample.image for sample in samples))
    mask: Callable[[int], Mask] | None = None
    if len(dataset.classes) == num_classes:
        mask = lambda number: read_labels(samples[number], num_classes=num_classes)  # noqa: E731
    return _of_images(frames, fit, f"{dataset.name}, training images", count, mask)


def _of_images(
    frames: Frames,
    fit: Fit,
    name: str,
    count: Count,
    mask: Callable[[int], Mask] | None = None,
) -> Candidates:
    pages = _pages(frames.files)
    descriptors = {}
    for number, page in pages.items():
        descriptors[number] = describe_frame(_page(*page, fit), fit)
        count(len(descriptors), len(pages))
    return Candidates(frames, fit, name, descriptors, pages, mask)


def _frames_below(path: Path) -> Frames | None:
    """Images of a folder and of those in it; None if there are none, or if it is no folder."""
    if not path.is_dir():
        return None
    listing = list_images_below(path, leave_out=MASK_FOLDERS)
    if told := listing.skipped():
        _log.warning("%s: not read: %s.", printable(path), told)
    return Frames(str(path), "folder", listing.images, listing) if listing.images else None


def _pages(files: Sequence[Path]) -> dict[int, tuple[Path, int]]:
    """File and page by number, of at most `CANDIDATES` frames in evenly spaced files."""
    looked_at = set(evenly(range(len(files)), CANDIDATES))
    pages: dict[int, tuple[Path, int]] = {}
    number = 0
    for position, file in enumerate(files):
        count = count_pages(read_bytes(file)) if position in looked_at else 0
        pages |= {number + page: (file, page) for page in range(count)}
        number += max(1, count)  # files that nobody looks at count as one
    return {number: pages[number] for number in evenly(list(pages), CANDIDATES)}


def _page(path: Path, page: int, fit: Fit) -> Frame:
    return fit.picture(decode(read_bytes(path), name=str(path), page=page), name=str(path))


CHOSEN = 32
"""Frames that calibrate: ranges settle before."""

HELD_OUT = 8
"""Frames to compare the methods on."""

TYPICAL = 8
"""Frames to compare with the training data."""


@dataclass(frozen=True)
class FrameSet:
    """Frames in memory.

    name: what a report calls their source. numbers: their numbers within it, ascending. frames:
    fitted to the net. mask: gives the class ids (H, W) of a frame by its number, None without
    labels.
    """

    name: str
    numbers: tuple[int, ...]
    frames: tuple[Frame, ...]
    mask: Callable[[int], Mask] | None = None

    def __len__(self) -> int:
        return len(self.frames)

    def alike(self, count: int) -> list[Frame]:
        """At most `count` frames of the first one's size and depth, evenly spaced."""
        first = self.frames[0]
        same = [f for f in self.frames if (f.shape, f.dtype) == (first.shape, first.dtype)]
        return same[:: max(1, len(same) // count)][:count]


@dataclass(frozen=True)
class Selection:
    """At most `CHOSEN + HELD_OUT + TYPICAL` frames of a source; frames in several sets are shared.

    typical: evenly spaced. chosen: as different as possible, to calibrate on. held_out: evenly
    spaced among the others, to compare methods on; the chosen ones if there are no others.
    procedural: the frames were drawn, and hold all classes.
    """

    typical: FrameSet
    chosen: FrameSet
    held_out: FrameSet
    procedural: bool = False

    @property
    def frames(self) -> list[Frame]:
        """All frames, each once."""
        sets = (self.typical, self.chosen, self.held_out)
        by_number = {n: f for s in sets for n, f in zip(s.numbers, s.frames, strict=True)}
        return list(by_number.values())


def select(candidates: Candidates) -> Selection:
    """Choose `CHOSEN` frames farthest-first, but leave one in four of a short source; read them.

    The choice depends on the order of the frames only if some are equal.
    """
    numbers = list(candidates.descriptors)
    vectors = np.stack([descriptor.vector for descriptor in candidates.descriptors.values()])
    count = min(CHOSEN, len(numbers) - len(numbers) // 4)
    chosen = sorted(numbers[row] for row in farthest_first(vectors, count))
    others = [number for number in numbers if number not in chosen]
    typical, held_out = evenly(numbers, TYPICAL), evenly(others, HELD_OUT) or chosen
    taken = candidates.take({*typical, *chosen, *held_out})

    def frames(wanted: list[int]) -> FrameSet:
        images = tuple(taken[number] for number in wanted)
        return FrameSet(candidates.name, tuple(wanted), images, candidates.mask)

    return Selection(typical=frames(typical), chosen=frames(chosen), held_out=frames(held_out))


def drawn_selection(drawn: FrameSet) -> Selection:
    """The first `CHOSEN` of frames that were drawn independently; the rest is held out."""

    def frames(part: slice) -> FrameSet:
        return FrameSet(drawn.name, drawn.numbers[part], drawn.frames[part], drawn.mask)

    chosen = frames(slice(CHOSEN))
    return Selection(chosen, chosen, frames(slice(CHOSEN, None)), procedural=True)
