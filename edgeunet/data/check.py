"""Check a data set before training: what it holds, and everything that is wrong with it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ..errors import DatasetError, SourceError
from ..metrics import IGNORE, class_pixels
from .datasets import Dataset, Sample, read_image, read_instances, read_labels

Pixels = npt.NDArray[np.int64]

SHOWN = 8
"""Most problems that the error lists; the others are only counted."""


@dataclass(frozen=True)
class SplitContents:
    """One split. by_image: pixels (M, C) of each class in each image."""

    by_image: Pixels

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
        }


@dataclass(frozen=True)
class Contents:
    """Contents of a data set that is fit for training."""

    name: str
    classes: tuple[str, ...]
    train: SplitContents
    val: SplitContents

    def to_json(self) -> dict[str, object]:
        """JSON-ready form."""
        splits = {"train": self.train.to_json(), "val": self.val.to_json()}
        return {"name": self.name, "classes": list(self.classes), **splits}

    def table(self) -> str:
        """Aligned text for a terminal: share of the pixels and number of images of each class."""
        lines = [
            f"{self.name}: {self.train.images} training images, {self.val.images} for validation",
            f"{'class':<16}{'train pixels':>14}{'images':>8}{'val pixels':>14}{'images':>8}",
        ]
        columns = [(split.pixels, split.holding) for split in (self.train, self.val)]
        for index, name in enumerate(self.classes):
            cells = "".join(
                f"{pixels[index] / max(1, pixels.sum()):>14.3%}{holding[index]:>8}"
                for pixels, holding in columns
            )
            lines.append(f"{name:<16}{cells}")
        return "\n".join(lines)


def check_dataset(dataset: Dataset) -> Contents:
    """Read every image and mask once.

    Raises:
        DatasetError: an empty split; or a list of images and masks that cannot be read, and of
            masks with unknown class ids, another size than their image, or ignored pixels only.
    """
    problems: list[str] = []
    splits = []
    for split in ("train", "val"):
        samples = dataset.samples(split)
        pixels = np.zeros((len(samples), len(dataset.classes)), np.int64)
        for index, sample in enumerate(samples):
            try:
                pixels[index] = _count(sample, len(dataset.classes))
            except (DatasetError, SourceError) as error:
                problems.append(str(error))
        splits.append(SplitContents(pixels))
    if problems:
        more = f"\n  and {len(problems) - SHOWN} more" if len(problems) > SHOWN else ""
        listed = "".join(f"\n  {problem}" for problem in problems[:SHOWN])
        raise DatasetError(f"{dataset.root} cannot be trained on:{listed}{more}")
    return Contents(dataset.name, dataset.classes, *splits)


def _count(sample: Sample, num_classes: int) -> Pixels:
    """Pixels of each class; DatasetError if image and mask do not fit."""
    height, width = read_image(sample.image).shape[:2]
    mask = read_labels(sample, num_classes=num_classes)
    shapes = {sample.mask: mask.shape}
    if sample.instances is not None:
        shapes[sample.instances] = read_instances(sample.instances).shape
    for path, (rows, columns) in shapes.items():
        if (rows, columns) != (height, width):
            raise DatasetError(
                f"{path} is {rows}x{columns}, its image {sample.image.name} {height}x{width}."
            )
    pixels = class_pixels(mask, num_classes=num_classes)
    if not pixels.any():
        raise DatasetError(f"{sample.mask} has no pixel that counts: all are {IGNORE} (ignore).")
    return pixels
