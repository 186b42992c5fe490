"""CamVid, in the forms that go round.

- SegNet's: `train`, `trainannot`, `val`, `valannot`, `test`, `testannot`; 11 classes, 11 is void.
- fast.ai's: `images`, `labels/NAME_P.png`, names in `codes.txt`, validation in `valid.txt`.
- Kaggle's: `train`, `train_labels/NAME_L.png` in colours, names and colours in `class_dict.csv`.

Brostow et al., "Semantic object classes in video", Pattern Recognition Letters 2009; SegNet:
Badrinarayanan et al., arXiv 1511.00561.
"""

from __future__ import annotations

from pathlib import Path

from ...errors import DatasetError, printable
from ..description import Declared
from ..samples import STEM
from .base import Family, Layout
from .classes import is_void, listed_classes
from .files import read_lines, read_table
from .pairs import SPLIT, list_pairs, patterns
from .splits import divide, names_of

SEGNET = {
    "sky": (128, 128, 128),
    "building": (128, 0, 0),
    "pole": (192, 192, 128),
    "road": (128, 64, 128),
    "pavement": (60, 40, 222),
    "tree": (128, 128, 0),
    "sign": (192, 128, 128),
    "fence": (64, 64, 128),
    "car": (64, 0, 128),
    "pedestrian": (64, 64, 0),
    "bicyclist": (0, 128, 192),
}
"""Colours of SegNet's classes, by value."""


def read(root: Path, declared: Declared) -> Layout:
    """The form is told by the folders."""
    if (root / "trainannot").is_dir():
        found: dict[str, object] = {
            "classes": list(SEGNET),
            "palette": [list(colour) for colour in SEGNET.values()],
            "ignore": [len(SEGNET), 255],
        }
        return _read(root, declared, f"{SPLIT}/{STEM}", f"{SPLIT}annot/{STEM}", found)
    if (root / "codes.txt").is_file():
        found = listed_classes(read_lines(root / "codes.txt"))
        return _read(root, declared, f"images/{STEM}", f"labels/{STEM}_P", found)
    if (root / "class_dict.csv").is_file():
        found = _colours(root / "class_dict.csv")
        return _read(root, declared, f"{SPLIT}/{STEM}", f"{SPLIT}_labels/{STEM}_L", found)
    raise DatasetError(f"{printable(root)} has no form of camvid; expected {FAMILY.form}.")


def _read(
    root: Path, declared: Declared, image: str, mask: str, found: dict[str, object]
) -> Layout:
    pairs = list_pairs(root, *patterns(declared, image, mask))
    lists = {"val": names_of(root / "valid.txt")} if (root / "valid.txt").is_file() else {}
    description = declared.described(**found)
    return divide("camvid", description, pairs.samples, lists=lists, unused=pairs.unused)


def _colours(path: Path) -> dict[str, object]:
    """Names and colours of rows NAME,R,G,B; a void class has its colour, and does not count."""
    rows = read_table(path)
    for row in rows:
        if len(row) != 4 or not all(cell.isdecimal() for cell in row[1:]):
            raise DatasetError(f"{printable(path)} has the row {row}; expected NAME,R,G,B.")
    names = [row[0] for row in rows]
    palette = [[int(cell) for cell in row[1:]] for row in rows]
    ignore = [index for index, name in enumerate(names) if is_void(name)]
    found: dict[str, object] = {"classes": names, "palette": palette, "mask_values": "palette"}
    return {**found, "ignore": ignore} if ignore else found


FAMILY = Family(
    "camvid",
    "train and trainannot; or images, labels and codes.txt; or train, train_labels, class_dict.csv",
    (
        ("train", "trainannot"),
        ("images", "labels", "codes.txt"),
        ("train", "train_labels", "class_dict.csv"),
    ),
    read,
)
