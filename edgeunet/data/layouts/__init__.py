"""Layouts of data sets, as people have them: one file a family, `LAYOUTS` lists them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from ...errors import DatasetError, UnknownNameError, printable
from ..description import Declared
from . import (
    camvid,
    carvana,
    cityscapes,
    coco,
    cvat,
    labelme,
    mmseg,
    nnunet,
    own,
    roboflow,
    voc,
    yolo_seg,
)
from .base import Family, Layout

__all__ = ["LAYOUTS", "Family", "Layout", "open_layout", "recognise"]

LAYOUTS: dict[str, Family] = {
    module.FAMILY.name: module.FAMILY
    for module in (
        *(own, camvid, carvana, cityscapes, coco, cvat, labelme, mmseg, nnunet, roboflow, voc),
        yolo_seg,
    )
}
"""Families by name."""


def recognise(root: Path) -> list[tuple[str, str]]:
    """Families whose signs a folder has, with the signs found: one, if there is no doubt.

    Example:
        >>> from pathlib import Path; from edgeunet.data.layouts import recognise
        >>> for name in ("JPEGImages", "SegmentationClass"): Path(name).mkdir()
        >>> recognise(Path("."))
        [('voc', 'JPEGImages, SegmentationClass')]
    """
    found = [(name, family.found(root)) for name, family in LAYOUTS.items()]
    return [(name, signs) for name, signs in found if signs is not None]


def open_layout(root: Path, declared: Declared, name: str | None = None) -> Layout:
    """Read a folder by the layout of that name, the declared one, or the one that its files show.

    Raises:
        DatasetError: no layout without doubt, another than the declared one, or a damaged folder.
        UnknownNameError: no layout of that name.
    """
    wanted = name or declared.layout
    if wanted is not None and wanted not in LAYOUTS:
        raise UnknownNameError("layout", wanted, LAYOUTS)
    if not root.is_dir():
        raise DatasetError(f"{printable(declared.path)} does not exist: {root} is no folder.")
    if declared.layout not in (None, wanted):
        raise DatasetError(
            f'{declared.path} says "layout": "{declared.layout}"; got --layout {wanted}. Leave one '
            "out."
        )
    if wanted is not None:
        layout = LAYOUTS[wanted].read(root, declared)
        return layout if name is not None else _noted(layout, "as dataset.json says")
    found = recognise(root)
    if len(found) == 1:
        ((family, signs),) = found
        layout = LAYOUTS[family].read(root, declared)
        return layout if family == "own" else _noted(layout, f"recognised by {signs}")
    if declared.info and not found:
        return own.read(root, declared)
    raise DatasetError(_unknown(root, declared, [family for family, _ in found]))


def _noted(layout: Layout, why: str) -> Layout:
    told = f"layout {layout.family}, {why}"
    return replace(layout, notices=(told, *layout.notices))


def _unknown(root: Path, declared: Declared, found: list[str]) -> str:
    """What to say of a folder that may be of several layouts, or of none."""
    if found:
        listed = " or ".join(found)
        return f"{printable(root)} may be {listed}. Pass --layout {found[0]}, or another."
    message = f"{printable(declared.path)} does not exist"
    near = [family for family in LAYOUTS.values() if family.resembles(root)]
    below = [path for path in sorted(root.glob("*")) if path.is_dir() and recognise(path)]
    below += [path for path in sorted(root.glob("*/*")) if path.is_dir() and recognise(path)]
    if below:
        kind = recognise(below[0])[0][0]
        return f"{message}, but {printable(below[0])} looks like {kind}. Pass that folder."
    message += ", and the folder has no layout that is known."
    if near:
        forms = "; ".join(f"{family.name}: {family.form}" for family in near)
        return f"{message} It may be meant as {forms}. Pass --layout, or add what is missing."
    return (
        f"{message} Known: {', '.join(LAYOUTS)}. Pass --layout; ours is DIR/dataset.json with "
        "DIR/{train,val}/images and DIR/{train,val}/masks."
    )
