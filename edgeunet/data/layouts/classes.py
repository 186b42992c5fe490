"""Classes of a layout: which names count, which one is the background, and who names them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ...errors import DatasetError, SourceError, did_you_mean, printable
from ...metrics import IGNORE
from ..description import Colour, Declared, Description
from ..images import read_ids
from .files import read_lines

BACKGROUND = ("background", "_background_", "__background__", "bg")
"""Names, in lower case, of the class of pixels that nothing covers."""

VOID = ("void", "unlabelled", "unlabeled", "ignore", "__ignore__", "ignored")
"""Names, in lower case, of a class whose pixels do not count."""

_FILES = ("classes.txt", "labels.txt", "class_names.txt", "names.txt", "codes.txt")
_LOOKED_AT = 20  # masks, to advise on classes


def is_void(name: str) -> bool:
    """Whether a name says that its pixels do not count."""
    return name.lower() in VOID


def names_beside(root: Path) -> list[str] | None:
    """Names of classes by id, one a line, of a file at the top of a data set; None without one."""
    for name in _FILES:
        if (root / name).is_file():
            return read_lines(root / name)
    return None


def listed_classes(names: Sequence[str]) -> dict[str, object]:
    """What `Declared.described` takes of names by value; a void class does not count."""
    kept = [index for index, name in enumerate(names) if not is_void(name)]
    left_out = [index for index in range(len(names)) if index not in kept]
    found: dict[str, object] = {"classes": [names[index] for index in kept]}
    if left_out:
        found["ignore"] = sorted({*left_out, *([] if len(names) > IGNORE else [IGNORE])})
    if kept != list(range(len(kept))):
        found["mask_values"] = kept
    return found


def ask_for_classes(declared: Declared, masks: Sequence[Path]) -> DatasetError:
    """The error for a folder that does not name its classes; it tells what the masks hold."""
    values = values_of(masks)
    shown = ", ".join(map(str, values[:20])) + (", ..." if len(values) > 20 else "")
    return DatasetError(
        f"{printable(declared.path.parent)} does not name its classes; the masks looked at hold "
        f"{shown or 'nothing'}. Write a file classes.txt with one name a line, from value 0, or "
        f'{declared.path.name} with "classes": ["name of 0", ...]; other values: "mask_values" '
        'and "ignore".'
    )


def values_of(masks: Sequence[Path]) -> list[int]:
    """Values in some of the masks, in order."""
    held: set[int] = set()
    for path in masks[:: max(1, len(masks) // _LOOKED_AT)]:
        try:
            ids = read_ids(path)
        except SourceError:  # reading the samples tells
            continue
        held.update(int(value) for value in np.unique(ids[..., 0] if ids.ndim == 3 else ids))
    return sorted(held)


@dataclass(frozen=True)
class DrawnClasses:
    """Classes of labels that are drawn.

    ids: class id by category, `IGNORE` for those that do not count. background: of pixels that
    nothing covers.
    """

    description: Description
    ids: Mapping[str, int]
    background: int

    def id_of(self, name: str, where: str) -> int:
        """Class id of a category; DatasetError if it is unknown. where: begins the message."""
        if name not in self.ids:
            raise DatasetError(
                f"{where} has the category {printable(name)!r}, which is unknown."
                f"{did_you_mean(name, self.ids)} Known: {', '.join(map(printable, self.ids))}. "
                "Correct it, or add it to the categories."
            )
        return self.ids[name]


def drawn_classes(
    declared: Declared,
    names: Sequence[str],
    *,
    colours: Mapping[str, Colour] | None = None,
) -> DrawnClasses:
    """The classes of categories that are drawn, with the background before them.

    The background is the category of such a name, or a class more. Categories that are called void
    do not count. If `dataset.json` lists classes, its order holds.

    Raises:
        DatasetError: no category, one twice, or a list in `dataset.json` without a background.
    """
    if twice := next((name for name in names if list(names).count(name) > 1), None):
        raise DatasetError(
            f"{printable(declared.path.parent)} has two categories of the name "
            f"{printable(twice)!r}. Rename one."
        )
    voids = [name for name in names if is_void(name)]
    drawn = [name for name in names if name not in voids]
    ground = next((name for name in drawn if name.lower() in BACKGROUND), None)
    classes = [ground or BACKGROUND[0], *(name for name in drawn if name != ground)]
    if len(classes) < 2:
        raise DatasetError(f"{printable(declared.path.parent)} has no category to learn.")
    palette = None
    if colours and set(colours) >= set(drawn):
        listed = [colours[name] for name in drawn if name != ground]
        palette = [list(each) for each in (colours.get(ground or "", (0, 0, 0)), *listed)]
        if len({tuple(each) for each in palette}) < len(palette):
            palette = None
    description = declared.described(classes=classes, palette=palette)
    ids = {name: index for index, name in enumerate(description.classes)}
    at = next((ids[name] for name in ids if name.lower() in BACKGROUND), None)
    if at is None:
        raise DatasetError(
            f'{declared.path}: "classes" names no background; expected the class of pixels that '
            f"nothing covers, {BACKGROUND[0]!r}, among {', '.join(description.classes)}."
        )
    return DrawnClasses(description, {**ids, **dict.fromkeys(voids, IGNORE)}, at)
