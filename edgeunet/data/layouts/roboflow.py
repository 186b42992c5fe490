"""Roboflow: `{train,valid,test}` with images and `NAME_mask.png`, or `_annotations.coco.json`.

Semantic masks hold the values that `_classes.csv` of each split names. Its YOLO form is `yolo_seg`.
"""

from __future__ import annotations

from pathlib import Path

from ...errors import DatasetError, printable
from ..description import Declared
from ..samples import STEM
from . import coco
from .base import Family, Layout
from .files import read_table
from .pairs import SPLIT, list_pairs, patterns
from .splits import divide

_CLASSES = "_classes.csv"


def read(root: Path, declared: Declared) -> Layout:
    """Masks if there are any, else polygons."""
    if next(root.glob(f"*/{_CLASSES}"), None) is None:
        return coco.read(root, declared, family="roboflow")
    pairs = list_pairs(root, *patterns(declared, f"{SPLIT}/{STEM}", f"{SPLIT}/{STEM}_mask.png"))
    files = sorted(root.glob(f"*/{_CLASSES}"))
    values = _values(files[0])
    for path in files[1:]:
        if _values(path) != values:
            raise DatasetError(
                f"{printable(path)} and {printable(files[0])} differ; expected the same classes in "
                "each split. Export the data set anew."
            )
    ordered = sorted(values)
    description = declared.described(
        classes=[values[value] for value in ordered], mask_values=ordered
    )
    return divide("roboflow", description, pairs.samples, unused=pairs.unused)


def _values(path: Path) -> dict[int, str]:
    """Names by value, of rows VALUE,NAME."""
    values = {}
    for row in read_table(path):
        if len(row) != 2 or not row[0].isdecimal():
            raise DatasetError(f"{printable(path)} has the row {row}; expected VALUE,NAME.")
        values[int(row[0])] = row[1]
    return values


FAMILY = Family(
    "roboflow",
    "{train,valid}/_classes.csv with NAME.jpg and NAME_mask.png, or _annotations.coco.json",
    (("*/_classes.csv",), ("*/_annotations.coco.json",)),
    read,
)
