"""What a data set holds as an HTML page, with samples: image, mask, and both."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from ..files import write_bytes
from ..metrics import IGNORE, Mask
from ..pages import data_url, render
from .check import Contents, SplitContents, Survey
from .datasets import Dataset, read_labels
from .description import Palette
from .images import Rgb, read_picture
from .samples import Sample

SHOWN = 8
"""Samples of a split on the page."""

_SIDE = 360  # pixels of a picture on the page
_NO_CLASS = (255, 255, 255)
_STRIPE = (170, 170, 170)


@dataclass(frozen=True)
class Shown:
    """A sample on the page. pictures: `data:` URLs by caption."""

    name: str
    labels: str
    size: tuple[int, int]
    pictures: dict[str, str]


def write_page(path: Path, dataset: Dataset, found: Survey) -> None:
    """Write the page: what was understood, the classes, problems, and samples of both splits.

    A sample that cannot be read is left out; its problem is on the page.
    """
    contents = found.contents
    page = render(
        Path(__file__).parent / "templates" / "data.html",
        contents=contents,
        root=dataset.root,
        problems=found.problems,
        missing=list(contents.missing()),
        classes=[
            (name, colour, _share(contents.train, index), _share(contents.val, index))
            for index, (name, colour) in enumerate(
                zip(dataset.classes, dataset.palette, strict=True)
            )
        ],
        splits=[
            (name, counts, list(_shown(dataset, name, counts)))
            for name, counts in (("train", contents.train), ("val", contents.val))
        ],
        unused=[*_unused(contents)],
    )
    write_bytes(path, page.encode())


def choose(pixels: npt.NDArray[np.int64], most: int) -> list[int]:
    """Indices of images, of pixels (M, C) of each class: first one for every class, then evenly.

    Example:
        >>> from edgeunet.data.page import choose
        >>> choose(np.array([[9, 0, 0], [9, 0, 0], [5, 4, 0], [3, 0, 6]]), 3)
        [0, 2, 3]
    """
    chosen: list[int] = []
    for class_id in np.argsort((pixels > 0).sum(0), kind="stable"):  # the rarest first
        if not pixels[chosen, class_id].any() and pixels[:, class_id].any():
            chosen.append(int(pixels[:, class_id].argmax()))
    chosen = chosen[:most]
    spaced = np.linspace(0, len(pixels) - 1, min(most, len(pixels))).round().astype(int)
    for index in (int(each) for each in spaced):
        if len(chosen) < most and index not in chosen:
            chosen.append(index)
    return sorted(chosen)


def _share(split: SplitContents, index: int) -> tuple[int, float, int]:
    """Pixels of a class, their share, and the number of images that hold it."""
    pixels = split.pixels
    return int(pixels[index]), pixels[index] / max(1, pixels.sum()), int(split.holding[index])


def _unused(contents: Contents) -> Iterator[str]:
    for name, split in (("train", contents.train), ("val", contents.val)):
        yield from (f"{name}: {text}" for text in split.skipped)
    yield from contents.unused


def _shown(dataset: Dataset, split: str, counts: SplitContents) -> Iterator[Shown]:
    samples: Sequence[Sample] = dataset.samples(split)
    readable = np.flatnonzero(counts.by_image.any(axis=1))  # the others are among the problems
    for index in choose(counts.by_image[readable], SHOWN):
        sample = samples[readable[index]]
        image = _as_rgb(read_picture(sample.image).pixels)
        mask = read_labels(sample, num_classes=len(dataset.classes))
        size = mask.shape[0], mask.shape[1]
        image, mask = reduced(image, mask)
        colours = coloured(mask, dataset.palette)
        bare = (mask == IGNORE) | ~colours.any(axis=2)  # black would only darken it
        blend = np.where(bare[..., None], image, image // 2 + colours // 2)
        yield Shown(
            str(sample.image.relative_to(dataset.root)),
            str(sample.labels.path.relative_to(dataset.root)),
            size,
            {
                "image": data_url("jpeg", image),
                "mask": data_url("png", colours),
                "both": data_url("jpeg", blend.astype(np.uint8)),
            },
        )


def _as_rgb(pixels: npt.NDArray[np.generic]) -> Rgb:
    """Three channels of 8 bit for the eye: the first three, from the darkest to the brightest."""
    few = pixels[..., :3] if pixels.shape[2] >= 3 else np.repeat(pixels[..., :1], 3, axis=2)
    if few.dtype == np.uint8:
        return np.ascontiguousarray(few)
    values = few.astype(np.float64)
    low, high = np.nanmin(values), np.nanmax(values)
    levels = np.nan_to_num((values - low) / max(high - low, 1e-12))
    shown: Rgb = np.round(255 * levels).astype(np.uint8)
    return shown


def reduced(image: Rgb, mask: Mask) -> tuple[Rgb, Mask]:
    """Picture (H, W, 3) and mask (H, W) at a size for a page, if they are larger."""
    height, width = mask.shape
    scale = min(1.0, _SIDE / max(height, width))
    size = max(1, round(width * scale)), max(1, round(height * scale))
    if scale == 1.0:
        return image, mask
    small: Rgb = cv2.resize(image, size, interpolation=cv2.INTER_AREA)  # type: ignore[assignment]
    ids: Mask = cv2.resize(mask, size, interpolation=cv2.INTER_NEAREST)  # type: ignore[assignment]
    return small, ids


def coloured(mask: Mask, palette: Palette) -> Rgb:
    """Colours of the classes; stripes for pixels that do not count."""
    table = np.full((256, 3), _NO_CLASS, np.uint8)
    table[: len(palette)] = palette
    picture: Rgb = table[mask]
    rows, columns = np.indices(mask.shape)
    picture[(mask == IGNORE) & ((rows + columns) % 8 < 3)] = _STRIPE
    return picture
