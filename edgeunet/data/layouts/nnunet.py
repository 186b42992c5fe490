"""nnU-Net: `imagesTr/CASE_0000.png`, `labelsTr/CASE.png` and its own `dataset.json`.

Version 2 of the format, and version 1 of it. `splits_final.json`, if it lies here, gives the
samples that validate, by its first fold. Its `dataset.json` may have "val" and "seed" as ours.

Isensee et al., "nnU-Net", Nature Methods 18 (2021); format: documentation/dataset_format.md.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ...errors import DatasetError, printable
from ...listing import IMAGE_SUFFIXES
from ...metrics import IGNORE
from ..description import Declared
from ..samples import STEM
from .base import Family, Layout
from .classes import is_void
from .files import read_json
from .pairs import list_pairs
from .splits import Names, divide

_SPLITS = "splits_final.json"


def read(root: Path, declared: Declared) -> Layout:
    """Classes are the labels in the order of their values."""
    path = root / "dataset.json"
    content = read_json(path)
    if not isinstance(content, dict) or not isinstance(content.get("labels"), dict):
        raise DatasetError(f"{printable(path)} is not of nnU-Net; expected {FAMILY.form}.")
    channels = content.get("channel_names", content.get("modality")) or {}
    if isinstance(channels, (dict, list)) and len(channels) > 1:
        raise DatasetError(
            f"{printable(path)} has {len(channels)} channels in files of their own; expected one "
            "file an image. Save each case as one TIFF of these channels."
        )
    ending = str(content.get("file_ending", ".nii.gz" if "modality" in content else ".png"))
    if ending.lower() not in IMAGE_SUFFIXES:
        raise DatasetError(
            f"{printable(path)} has files {printable(ending)}, which may be volumes; expected "
            "images, such as .png or .tif. Save the slices as images."
        )
    image, mask = f"imagesTr/{STEM}_0000{ending}", f"labelsTr/{STEM}{ending}"
    pairs = list_pairs(root, image, mask)
    unused = [*pairs.unused]
    if (root / "imagesTs").is_dir():
        unused.append("imagesTs: nnU-Net's test images")
    description = declared.described(name=content.get("name") or None, **_classes(path, content))
    return divide("nnunet", description, pairs.samples, lists=_lists(root), unused=unused)


def _classes(path: Path, content: Mapping[str, Any]) -> dict[str, Any]:
    """Names and values; version 1 has the values as keys."""
    labels = content["labels"]
    if all(key.isdecimal() and isinstance(name, str) for key, name in labels.items()):
        labels = {name: int(key) for key, name in labels.items()}
    for name, value in labels.items():
        if isinstance(value, list):
            raise DatasetError(
                f"{printable(path)}: the label {printable(name)!r} is a region of the values "
                f"{value}, which overlaps others; expected one value a label."
            )
        if type(value) is not int:
            raise DatasetError(f"{printable(path)}: the label {printable(name)!r} is {value!r}.")
    ordered = sorted((value, name) for name, value in labels.items() if not is_void(name))
    voids = [value for name, value in labels.items() if is_void(name)]
    values = [value for value, _ in ordered]
    found: dict[str, Any] = {"classes": [name for _, name in ordered], "mask_values": values}
    found["ignore"] = [*voids, *([] if IGNORE in values or IGNORE in voids else [IGNORE])]
    return found


def _lists(root: Path) -> dict[str, Names]:
    path = root / _SPLITS
    if not path.is_file():
        return {}
    folds = read_json(path)
    fold = folds[0] if isinstance(folds, list) and folds else None
    lists = {name: fold.get(name) if isinstance(fold, dict) else None for name in ("train", "val")}
    for name, cases in lists.items():
        if not isinstance(cases, list) or not all(isinstance(case, str) for case in cases):
            raise DatasetError(f"{printable(path)} has no list {name!r} in its first fold.")
    return {name: (path, [f"{case}_0000" for case in cases or ()]) for name, cases in lists.items()}


FAMILY = Family(
    "nnunet",
    "dataset.json with labels, imagesTr/CASE_0000.png, labelsTr/CASE.png",
    (("dataset.json", "imagesTr", "labelsTr"),),
    read,
)
