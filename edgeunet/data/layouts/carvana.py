"""Carvana, and what copies it: images in one folder, masks of them in another.

Kaggle's form is `train/NAME.jpg` and `train_masks/NAME_mask.gif`, that of milesial's U-Net
`imgs/NAME.jpg` and `masks/NAME.png` or `NAME_mask.png`. Neither has images for validation.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ...errors import printable
from ...listing import list_images
from ..description import Declared
from ..samples import MASK_NAMES, STEM, Sample
from .base import Family, Layout
from .classes import ask_for_classes, listed_classes, names_beside, values_of
from .pairs import list_pairs, patterns
from .splits import divide


def read(root: Path, declared: Declared) -> Layout:
    """Classes are background and car, or of a file, or black and white masks'."""
    kaggle = (root / "train_masks").is_dir()
    images, masks = ("train", "train_masks") if kaggle else ("imgs", "masks")
    name = f"{STEM}_mask" if kaggle else _name_of_masks(root / images, root / masks)
    pairs = list_pairs(root, *patterns(declared, f"{images}/{STEM}", f"{masks}/{name}"))
    found: dict[str, Any] = {}
    names = names_beside(root)
    if names is not None:
        found = listed_classes(names)
    elif "classes" not in declared.info:
        values = values_of(pairs.masks)
        if len(values) > 2 or (values[:1] or [0]) != [0]:
            raise ask_for_classes(declared, pairs.masks)
        found = {"classes": ["background", "car" if kaggle else "object"]}
    unused = [*pairs.unused]
    if kaggle and (root / "test").is_dir():
        unused.append("test: its images have no masks")
    return divide(
        "carvana",
        declared.described(**found),
        pairs.samples,
        group=_car if kaggle else None,  # else views of one car were in both splits
        unused=unused,
    )


def _car(sample: Sample) -> str:
    """A car has 16 views, `ID_01` to `ID_16`."""
    return printable(sample.image.stem.rpartition("_")[0] or sample.image.stem)


def _name_of_masks(images: Path, masks: Path) -> str:
    """The first of the usual names that the first image has a mask of."""
    if images.is_dir() and masks.is_dir() and (listed := list_images(images).images):
        stems = {path.stem for path in list_images(masks).images}
        for name in MASK_NAMES:
            if name.replace(STEM, listed[0].stem) in stems:
                return name
    return STEM


FAMILY = Family(
    "carvana",
    "train and train_masks (NAME_mask.gif), or imgs and masks",
    (("train", "train_masks"), ("imgs", "masks")),
    read,
)
