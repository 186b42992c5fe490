"""Check a data set before training: what it holds, and everything that is wrong with it."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ..errors import DatasetError, FrameError, SourceError, printable
from ..metrics import IGNORE, class_pixels
from .datasets import SPLITS, Dataset, read_instances, read_labels
from .fit import Fit, is_usual
from .images import Picture, decode_only, is_turned, read_bytes
from .samples import Sample

Pixels = npt.NDArray[np.int64]

SHOWN = 8
"""Most problems that the error lists; the others are only counted."""

_SIZES = 4  # that a report names


@dataclass(frozen=True)
class SplitContents:
    """One split.

    by_image: pixels (M, C) of each class in each image. turned: number of images that EXIF turns.
    skipped: a text for each kind of file that is not used. copies: pairs of images whose files are
    the same under two names, the first one in the order of the data set before the other.
    """

    by_image: Pixels
    turned: int = 0
    skipped: tuple[str, ...] = ()
    copies: tuple[tuple[Path, Path], ...] = ()

    @property
    def images(self) -> int:
        """Number of images."""
        return len(self.by_image)

    @property
    def pixels(self) -> Pixels:
        """Pixels (C,) of each class."""
        total: Pixels = self.by_image.sum(0)
        return total

    @property
    def holding(self) -> Pixels:
        """Number of images (C,) that hold each class."""
        images: Pixels = (self.by_image > 0).sum(0)
        return images

    def to_json(self) -> dict[str, object]:
        """JSON-ready form, without the counts of each image."""
        return {
            "images": self.images,
            "pixels": self.pixels.tolist(),
            "holding": self.holding.tolist(),
            "turned": self.turned,
            "skipped": list(self.skipped),
            "copies": [[str(path) for path in pair] for pair in self.copies],
        }


@dataclass(frozen=True)
class Contents:
    """Contents of a data set.

    notices: how the masks are read, if that had to be found out. depth: type of the images' values.
    span: the smallest and the largest of them. layout: name of the folder's layout. unused: what
    the folder holds besides, and why it is not used. sizes: number of images by (height, width).
    channels: of the images, as text.
    """

    name: str
    classes: tuple[str, ...]
    train: SplitContents
    val: SplitContents
    notices: tuple[str, ...] = ()
    depth: str = "uint8"
    span: tuple[float, float] = (0.0, 255.0)
    layout: str = "own"
    unused: tuple[str, ...] = ()
    sizes: Mapping[tuple[int, int], int] = field(default_factory=dict)
    channels: str = ""

    def to_json(self) -> dict[str, object]:
        """JSON-ready form."""
        return {
            "name": self.name,
            "layout": self.layout,
            "classes": list(self.classes),
            "depth": self.depth,
            "span": list(self.span),
            "channels": self.channels,
            "sizes": {f"{height}x{width}": n for (height, width), n in self._by_count()},
            **{name: split.to_json() for name, split in self._splits()},
            "notices": list(self.notices),
            "unused": list(self.unused),
        }

    def table(self) -> str:
        """Aligned text for a terminal: share of the pixels and number of images of each class."""
        width = max(15, *(len(printable(name)) for name in self.classes)) + 1
        lines = [
            f"{printable(self.name)}: {self.train.images} training images, {self.val.images} for "
            "validation",
            f"{'class':<{width}}{'train pixels':>14}{'images':>8}{'val pixels':>14}{'images':>8}",
        ]
        columns = [(split.pixels, split.holding) for _, split in self._splits()]
        for index, name in enumerate(self.classes):
            cells = "".join(
                f"{pixels[index] / max(1, pixels.sum()):>14.3%}{holding[index]:>8}"
                for pixels, holding in columns
            )
            lines.append(f"{printable(name):<{width}}{cells}")
        for split_name, split in self._splits():
            if split.turned:
                lines.append(
                    f"{split_name}: EXIF turns {split.turned} of {split.images} images; their "
                    "masks have the size of the turned ones"
                )
            if split.copies:
                first, other = (printable(path.name) for path in split.copies[0])
                count = len(split.copies)
                many = "1 image is a copy" if count == 1 else f"{count} images are copies"
                lines.append(f"{split_name}: {many} of others, such as {other} of {first}")
            lines += [f"{split_name}: not used of {text}" for text in split.skipped]
        lines += [f"not used: {printable(text)}" for text in self.unused]
        if self.depth != "uint8":
            lines.append(f"values are {self.depth}, {self.span[0]:g} to {self.span[1]:g}")
        return "\n".join(lines)

    def missing(self) -> Iterator[tuple[str, str]]:
        """(split, class) for each class without a pixel in a split."""
        for split_name, split in self._splits():
            for name, pixels in zip(self.classes, split.pixels, strict=True):
                if not pixels:
                    yield split_name, name

    def sizes_text(self) -> str:
        """The most frequent sizes, as in "360x480 (90 images), 720x960 (1 image)"."""
        listed = self._by_count()
        texts = [
            f"{height}x{width} ({count} image{'' if count == 1 else 's'})"
            for (height, width), count in listed[:_SIZES]
        ]
        if len(listed) > _SIZES:
            texts.append(f"and {len(listed) - _SIZES} other sizes")
        return ", ".join(texts)

    def _by_count(self) -> list[tuple[tuple[int, int], int]]:
        return sorted(self.sizes.items(), key=lambda pair: (-pair[1], pair[0]))

    def _splits(self) -> tuple[tuple[str, SplitContents], ...]:
        return (("train", self.train), ("val", self.val))


@dataclass(frozen=True)
class Survey:
    """What a data set holds, and all that is wrong with it."""

    contents: Contents
    problems: tuple[str, ...] = ()


def survey(
    dataset: Dataset,
    fit: Fit | None = None,
    *,
    report: Callable[[int], None] = lambda count: None,
) -> Survey:
    """Read every image and mask once.

    Args:
        fit: of the net to train; images that do not fit it are problems too.
        report: called with the number of samples done.

    Raises:
        DatasetError: a split that is empty, or whose files do not match.
    """
    problems: list[str] = []
    splits = []
    values = _Values(fit)
    twins = _Twins()
    done = 0
    for name in SPLITS:
        split = dataset.split(name)
        pixels = np.zeros((len(split.samples), len(dataset.classes)), np.int64)
        turned = 0
        copies = []
        for index, sample in enumerate(split.samples):
            try:
                content = read_bytes(sample.image)
                turned += is_turned(content)
                picture = decode_only(content, name=str(sample.image))
                values.add(picture, str(sample.image))
                if (first := twins.add(name, sample.image, content, picture)) is not None:
                    copies.append((first, sample.image))
                size = (picture.pixels.shape[0], picture.pixels.shape[1])
                pixels[index] = _count(sample, size, len(dataset.classes))
            except (DatasetError, FrameError, SourceError) as error:
                problems.append(printable(error))
            done += 1
            report(done)
        splits.append(SplitContents(pixels, turned, split.skipped, tuple(copies)))
    train, val = splits
    contents = Contents(
        dataset.name,
        dataset.classes,
        train,
        val,
        dataset.notices,
        values.depth,
        values.span,
        dataset.layout.family,
        dataset.layout.unused,
        values.sizes,
        values.channels,
    )
    return Survey(contents, tuple(problems))


def check_dataset(dataset: Dataset, fit: Fit | None = None) -> Contents:
    """Read every image and mask once, see `survey`.

    Raises:
        DatasetError: an empty split; a list of images and masks that cannot be read, of images of
            another depth or other channels than the first, of images that are in both splits, and
            of masks with unknown class ids, another size than their image, or ignored pixels only;
            or a class without a pixel in a split.
    """
    found = survey(dataset, fit)
    contents, problems = found.contents, found.problems
    if problems:
        more = f"\n  and {len(problems) - SHOWN} more" if len(problems) > SHOWN else ""
        listed = "".join(f"\n  {problem}" for problem in problems[:SHOWN])
        total = contents.train.images + contents.val.images
        raise DatasetError(
            f"{dataset.root} cannot be trained on; {len(problems)} of {total} samples are wrong:"
            f"{listed}{more}"
        )
    if missing := list(contents.missing()):
        raise DatasetError(_without_pixels(dataset, contents, missing))
    return contents


def _without_pixels(dataset: Dataset, contents: Contents, missing: list[tuple[str, str]]) -> str:
    """What to say of classes without a pixel, by which nothing can be learned or measured."""
    listed = "".join(
        f"\n  '{printable(name)}' has no pixel in {split}" for split, name in missing[:SHOWN]
    )
    if len(missing) > SHOWN:
        listed += f"\n  and {len(missing) - SHOWN} more"
    advice = advice_without_pixels(dataset, missing)
    return (
        f"{dataset.root} cannot be trained on: a class has no pixel.{listed}\n{advice}\n"
        f"{contents.table()}"
    )


def advice_without_pixels(dataset: Dataset, missing: list[tuple[str, str]]) -> str:
    """What to do about classes without a pixel, given as (split, name)."""
    advice = (
        'Add images that show it to that split. Or leave it out: remove it from "classes" and its '
        'id from the masks, or merge it with another class in a view, a dataset.json of {"source": '
        f'"{dataset.root.name}", "merge": {{"NAME": ["{printable(missing[0][1])}", "..."]}}}}.'
    )
    if IGNORE in (dataset.description.ignore or ()) and len(dataset.classes) == 2:
        advice += (
            ' Pixels of 255 do not count here; if they are the class, set "mask_values": [0, 255] '
            'in dataset.json and remove "ignore".'
        )
    return advice


class _Values:
    """Depth, channels and range of the images so far."""

    def __init__(self, fit: Fit | None) -> None:
        self._fit = fit
        self._first: tuple[str, str, str] | None = None
        self._span = (np.inf, -np.inf)
        self.sizes: Counter[tuple[int, int]] = Counter()

    @property
    def depth(self) -> str:
        return "uint8" if self._first is None else self._first[1]

    @property
    def channels(self) -> str:
        return "" if self._first is None else self._first[2]

    @property
    def span(self) -> tuple[float, float]:
        """The smallest and the largest value; (0, 0) before the first image."""
        return (0.0, 0.0) if self._first is None else self._span

    def add(self, picture: Picture, name: str) -> None:
        """DatasetError if it differs from the first; FrameError if it does not fit the net."""
        count = picture.pixels.shape[2]
        usual = is_usual(picture.channels, count)
        channels = "gray or RGB" if usual else ", ".join(picture.channels) or f"{count} channels"
        found = (name, picture.pixels.dtype.name, channels)
        self._first = self._first or found
        if found[1:] != self._first[1:]:
            raise DatasetError(
                f"{name} is {found[1]} of {channels}; {self._first[0]} is {self._first[1]} of "
                f"{self._first[2]}. All images of a data set must agree."
            )
        if self._fit is not None:
            self._fit.picture(picture, name=name)
        self.sizes[picture.pixels.shape[0], picture.pixels.shape[1]] += 1
        low, high = self._span
        self._span = min(low, float(picture.pixels.min())), max(high, float(picture.pixels.max()))


class _Twins:
    """Finds files that are there twice, under different paths."""

    def __init__(self) -> None:
        self._seen: dict[bytes, tuple[str, Path]] = {}

    def add(self, split: str, path: Path, content: bytes, picture: Picture) -> Path | None:
        """The first file of the split with this content, if it is another and shows something.

        Raises:
            DatasetError: that file is in another split.
        """
        key = hashlib.sha256(content).digest()
        other, where = self._seen.setdefault(key, (split, path))
        if where == path or picture.pixels.min() == picture.pixels.max():
            return None
        if other != split:
            raise DatasetError(
                f"{printable(path)} is in {split}, and in {other} as {printable(where)}: its "
                "score would praise what was learnt by heart. Remove one of the two."
            )
        return where


def _count(sample: Sample, size: tuple[int, int], num_classes: int) -> Pixels:
    """Pixels of each class; DatasetError if the mask does not fit an image of that size."""
    height, width = size
    mask = read_labels(sample, num_classes=num_classes)
    shapes = {sample.labels.path: mask.shape}
    if sample.instances is not None:
        shapes[sample.instances] = read_instances(sample.instances).shape
    for path, (rows, columns) in shapes.items():
        if (rows, columns) != (height, width):
            turned = (rows, columns) == (width, height) and is_turned(read_bytes(sample.image))
            advice = f" EXIF turns the image; expected {height}x{width}." if turned else ""
            raise DatasetError(
                f"{printable(path)} is {rows}x{columns}, its image {printable(sample.image.name)} "
                f"{height}x{width}.{advice}"
            )
    pixels = class_pixels(mask, num_classes=num_classes)
    if not pixels.any():
        raise DatasetError(
            f"{printable(sample.labels.path)} has no pixel that counts: all are to be ignored."
        )
    return pixels
