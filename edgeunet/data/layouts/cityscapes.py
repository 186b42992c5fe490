"""Cityscapes: `leftImg8bit/{split}/CITY/*_leftImg8bit.png`, `gtFine/{split}/CITY/*_labelIds.png`.

The 34 label ids become the 19 train ids; the others do not count. Masks that hold train ids
(`*_labelTrainIds.png`) are read as they are.

Cordts et al., "The Cityscapes Dataset", CVPR 2016; ids and colours of cityscapesScripts' labels.py.
"""

from __future__ import annotations

from pathlib import Path

from ..description import Declared
from ..samples import STEM
from .base import Family, Layout
from .pairs import SPLIT, list_pairs, patterns
from .splits import divide

CLASSES = {
    "road": (7, (128, 64, 128)),
    "sidewalk": (8, (244, 35, 232)),
    "building": (11, (70, 70, 70)),
    "wall": (12, (102, 102, 156)),
    "fence": (13, (190, 153, 153)),
    "pole": (17, (153, 153, 153)),
    "traffic light": (19, (250, 170, 30)),
    "traffic sign": (20, (220, 220, 0)),
    "vegetation": (21, (107, 142, 35)),
    "terrain": (22, (152, 251, 152)),
    "sky": (23, (70, 130, 180)),
    "person": (24, (220, 20, 60)),
    "rider": (25, (255, 0, 0)),
    "car": (26, (0, 0, 142)),
    "truck": (27, (0, 0, 70)),
    "bus": (28, (0, 60, 100)),
    "train": (31, (0, 80, 100)),
    "motorcycle": (32, (0, 0, 230)),
    "bicycle": (33, (119, 11, 32)),
}
"""Label id and colour of each class that is trained on, in the order of the train ids."""

_LABEL_IDS = 34


def read(root: Path, declared: Declared) -> Layout:
    """Fine labels if there are any, else the coarse ones."""
    folder = "gtFine" if (root / "gtFine").is_dir() else "gtCoarse"
    by_label = next((root / folder).glob("*/*/*_labelIds.png"), None) is not None
    kind = "labelIds" if by_label else "labelTrainIds"
    pairs = list_pairs(
        root,
        *patterns(
            declared,
            f"leftImg8bit/{SPLIT}/{STEM}_leftImg8bit.png",
            f"{folder}/{SPLIT}/{STEM}_{folder}_{kind}.png",
        ),
    )
    ids = [label for label, _ in CLASSES.values()]
    others = [label for label in range(_LABEL_IDS) if label not in ids]
    description = declared.described(
        classes=list(CLASSES),
        palette=[list(colour) for _, colour in CLASSES.values()],
        mask_values=ids if by_label else "ids",
        ignore=[*others, 255] if by_label else 255,
    )
    notices = []
    if by_label and "mask_values" not in declared.info:
        notices.append("label ids become the 19 train ids; the other labels do not count")
    return divide("cityscapes", description, pairs.samples, notices=notices, unused=pairs.unused)


FAMILY = Family(
    "cityscapes",
    "leftImg8bit/{train,val}/CITY/*_leftImg8bit.png, gtFine/{train,val}/CITY/*_labelIds.png",
    (("leftImg8bit", "gtFine"), ("leftImg8bit", "gtCoarse")),
    read,
)
