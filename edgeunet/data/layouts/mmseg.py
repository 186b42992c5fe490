"""MMSegmentation: `img_dir/{train,val}` and `ann_dir/{train,val}`; ADE20K's folders.

ADE20K has `images/{training,validation}`, `annotations/{training,validation}` and its classes in
`objectInfo150.txt`; its values begin with 1, and 0 does not count (`reduce_zero_label`).

Zhou et al., "Scene Parsing through ADE20K Dataset", CVPR 2017.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ..description import Declared
from ..samples import STEM
from .base import Family, Layout
from .classes import ask_for_classes, listed_classes, names_beside
from .files import read_lines
from .pairs import SPLIT, list_pairs, patterns
from .splits import divide


def read(root: Path, declared: Declared) -> Layout:
    """Classes are those of ADE20K, of a file, or of `dataset.json`."""
    folders = ("img_dir", "ann_dir") if (root / "img_dir").is_dir() else ("images", "annotations")
    image, mask = (f"{folder}/{SPLIT}/{STEM}" for folder in folders)
    pairs = list_pairs(root, *patterns(declared, image, mask))
    found: dict[str, Any] = {}
    notices = []
    if (root / "objectInfo150.txt").is_file():
        lines = read_lines(root / "objectInfo150.txt")[1:]
        names = [line.split("\t")[-1].split(",")[0].strip() for line in lines]
        found = {"classes": _distinct(names), "ignore": [0, 255]}
        found["mask_values"] = [value + 1 for value in range(len(names))]
        notices.append("value 0 does not count, 1 is the first class, as in ADE20K")
    elif (listed := names_beside(root)) is not None:
        found = listed_classes(listed)
    elif "classes" not in declared.info:
        raise ask_for_classes(declared, pairs.masks)
    description = declared.described(**found)
    return divide("mmseg", description, pairs.samples, notices=notices, unused=pairs.unused)


def _distinct(names: list[str]) -> list[str]:
    """Names with a number from the second of the same on: ADE20K has two "screen"."""
    seen: dict[str, int] = {}
    distinct = []
    for name in names:
        seen[name] = seen.get(name, 0) + 1
        distinct.append(name if seen[name] == 1 else f"{name} {seen[name]}")
    return distinct


FAMILY = Family(
    "mmseg",
    "img_dir/{train,val}, ann_dir/{train,val}; or images/{training,validation}, annotations/...",
    (("img_dir", "ann_dir"), ("images/training", "annotations/training")),
    read,
)
