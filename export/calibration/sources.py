"""Where calibration frames come from: images, a data set, a video, or frames in memory."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from edgeunet.data.datasets import Sample, open_dataset, read_labels
from edgeunet.errors import CalibrationError, DatasetError
from edgeunet.files import IMAGE_SUFFIXES
from edgeunet.metrics import Mask
from edgeunet.runtime.preprocess import Frame
from edgeunet.runtime.sources import open_source, read_image
from edgeunet.runtime.sources.video import VIDEO_SUFFIXES

from .selection import Descriptor, describe_frame, evenly, thinned

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
