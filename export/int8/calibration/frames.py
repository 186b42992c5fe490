"""Where calibration frames come from: images, a data set, a video, or frames in memory."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

from edgeunet.data.datasets import Sample, open_dataset, read_labels
from edgeunet.errors import CalibrationError, DatasetError
from edgeunet.files import IMAGE_SUFFIXES
from edgeunet.metrics import Mask
from edgeunet.runtime.frames import Frame
from edgeunet.runtime.sources import open_source, read_image
from edgeunet.runtime.sources.video import VIDEO_SUFFIXES

from .selection import Descriptor, describe_frame, evenly, farthest_first, thinned

CANDIDATES = 512
"""Frames of a source that are looked at, evenly spaced: 3 MB of descriptors."""


class Source(Protocol):
    """Frames by number, read anew each time."""

    @property
    def name(self) -> str:
        """What a report calls the source."""

    @property
    def labelled(self) -> bool:
        """Whether `mask` knows the classes of every frame's pixels."""

    def read(self, numbers: Collection[int]) -> Iterator[Frame]:
        """The frames of these numbers, ascending."""

    def mask(self, number: int) -> Mask:
        """Class ids (H, W) of a frame of a labelled source."""


@dataclass(frozen=True)
class Drawn:
    """Frames in memory, with their masks."""

    name: str
    frames: Sequence[Frame]
    masks: Sequence[Mask]
    labelled: bool = True

    def read(self, numbers: Collection[int]) -> Iterator[Frame]:
        """See `Source`."""
        return (self.frames[number] for number in sorted(numbers))

    def mask(self, number: int) -> Mask:
        """See `Source`."""
        return self.masks[number]


@dataclass(frozen=True)
class Images:
    """Image files; with samples, one for each, where they are a data set of the net's classes."""

    name: str
    files: tuple[Path, ...]
    samples: tuple[Sample, ...] = ()
    num_classes: int = 0

    @property
    def labelled(self) -> bool:
        """See `Source`."""
        return bool(self.samples)

    def scan(self) -> dict[int, Descriptor]:
        """Descriptors of at most `CANDIDATES` files, evenly spaced, by number."""
        numbers = evenly(range(len(self.files)), CANDIDATES)
        return {number: describe_frame(read_image(self.files[number])) for number in numbers}

    def read(self, numbers: Collection[int]) -> Iterator[Frame]:
        """See `Source`."""
        return (read_image(self.files[number]) for number in sorted(numbers))

    def mask(self, number: int) -> Mask:
        """See `Source`."""
        return read_labels(self.samples[number], num_classes=self.num_classes)


@dataclass(frozen=True)
class Video:
    """A video file, decoded from its start each time: seeking is not exact in every format."""

    path: Path
    labelled: bool = False

    @property
    def name(self) -> str:
        """See `Source`."""
        return self.path.name

    def scan(self) -> dict[int, Descriptor]:
        """Descriptors of at most `CANDIDATES` frames, evenly spaced, by number."""
        with open_source(self.path) as frames:
            kept = thinned(frames, CANDIDATES, kept=lambda f: (f.index, describe_frame(f.image)))
            return dict(kept)

    def read(self, numbers: Collection[int]) -> Iterator[Frame]:
        """See `Source`."""
        wanted, last = set(numbers), max(numbers, default=-1)
        with open_source(self.path) as frames:
            for frame in frames:
                if frame.index > last:
                    return
                if frame.index in wanted:
                    yield frame.image

    def mask(self, number: int) -> Mask:
        """No video has labels."""
        raise DatasetError(f"{self.path} has no mask of frame {number}; a video has no labels.")


def open_frames(path: Path, *, num_classes: int) -> Images | Video:
    """A video file, the training images of a data set, or the images in a folder.

    Args:
        num_classes: the net's; a data set of another number has images, but no labels, for it.

    Raises:
        CalibrationError: none of those, or no image in it. DatasetError: a damaged data set.
    """
    if path.is_file() and path.suffix.lower() in VIDEO_SUFFIXES:
        return Video(path)
    if not path.is_dir():
        raise CalibrationError(
            f"{path} is not a directory with images or a data set, nor a video file "
            f"({', '.join(sorted(VIDEO_SUFFIXES))}). Pass one of those to --calib."
        )
    if (path / "dataset.json").is_file():
        dataset = open_dataset(path)
        samples = tuple(dataset.samples("train"))
        fits = len(dataset.classes) == num_classes
        return Images(
            name=f"{dataset.name}, training images",
            files=tuple(sample.image for sample in samples),
            samples=samples if fits else (),
            num_classes=num_classes,
        )
    files = sorted(item for item in path.iterdir() if item.suffix.lower() in IMAGE_SUFFIXES)
    if not files:
        raise CalibrationError(
            f"{path} holds no image ({', '.join(sorted(IMAGE_SUFFIXES))}). Pass --calib a folder "
            "with a few dozen frames of the application."
        )
    return Images(name=path.name, files=tuple(files))


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
