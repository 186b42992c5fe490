"""How the masks of a data set code class ids: by ids, by other values, or by colours.

One coding holds for all masks of a set. If `dataset.json` does not name it, `decide` finds it out
from all files, because a single file may look like several: a mask with 0 and 255 may hold the
second class, or only pixels that do not count.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ..errors import DatasetError, SourceError, printable
from ..metrics import IGNORE, Mask
from .description import Description, Palette
from .headers import form_of
from .images import read_bytes, read_ids

Ids = npt.NDArray[Any]

WHITES = (255, 65535)
"""Values of the object in masks of two classes that are black and white, with 8 and 16 bit."""

_STRANGE = 3  # values beyond those of the classes that may still be meant

_ONE_BIT = -1  # stands for the values of a mask with 1 bit, which fit both ids and black and white


@dataclass(frozen=True)
class Coding:
    """What the values or colours in mask files mean.

    values: value of each class. ignore: values that do not count. colours: of each class, None if
    the masks hold values. notice: what a user must know of how the coding was found, or empty.

    Example:
        >>> import cv2; from pathlib import Path; from edgeunet.data.masks import Coding
        >>> _ = cv2.imwrite("mask.png", np.uint8([[0, 200, 7]]))
        >>> Coding(values=(0, 200), ignore=(7,)).read(Path("mask.png"))
        array([[  0,   1, 255]], dtype=uint8)
    """

    values: tuple[int, ...]
    ignore: tuple[int, ...] = (IGNORE,)
    colours: Palette | None = None
    notice: str = ""

    def read(self, path: Path) -> Mask:
        """Read a mask (H, W): class ids, and `IGNORE` for pixels that do not count.

        Raises:
            SourceError: not an image, damaged, or in a format that loses values.
            DatasetError: the mask contradicts the coding.
        """
        if self.colours is not None:
            return self._by_colour(_read_colours(path), path)
        return self._by_value(one_channel(read_ids(path), path), path)

    @property
    def _are_ids(self) -> bool:
        return self.values == tuple(range(len(self.values)))

    def _by_value(self, found: Ids, path: Path) -> Mask:
        if found.dtype == bool:  # black and white
            white = next((value for value in WHITES if value in self.values), 1)
            found = np.where(found, white, 0)
        if self._are_ids:
            known = (found >= 0) & (found < len(self.values))
            mask = np.where(known, found, IGNORE).astype(np.uint8)
        else:
            known, mask = np.zeros(found.shape, bool), np.full(found.shape, IGNORE, np.uint8)
            for index, value in enumerate(self.values):
                same = found == value
                mask[same] = index
                known |= same
        for value in self.ignore:
            known |= found == value
        if not known.all():
            raise DatasetError(self._unknown(found, ~known, path))
        return mask

    def _unknown(self, found: Ids, wrong: npt.NDArray[np.bool_], path: Path) -> str:
        value, place = _first(found, wrong)
        count, held = len(self.values), np.unique(found)
        kind, expected = "value", ", ".join(map(str, self.values))
        if self._are_ids:
            kind, expected = "class id", f"0..{count - 1}"
        ignored = "".join(f", {each} = ignore" for each in self.ignore)
        message = (
            f"{printable(path)} holds {kind} {value} at {place}; there are {count} classes "
            f"({expected}{ignored}). "
        )
        if len(held) > count + _STRANGE:
            return message + (
                f"It holds {len(held)} different values, as after smooth scaling or a compression "
                "with losses. Write it anew without: scale to the nearest pixel."
            )
        listed = held.tolist() if len(held) == count else [*range(count - 1), value]
        return message + (
            "If other values code the classes, list the value of each in dataset.json, such as "
            f'"mask_values": {listed}; if {value} does not count, "ignore": {value}.'
        )

    def _by_colour(self, found: npt.NDArray[np.uint8], path: Path) -> Mask:
        assert self.colours is not None
        order = np.argsort(_packed(np.array(self.colours, np.uint8)))
        known = _packed(np.array(self.colours, np.uint8))[order]
        codes = _packed(found)
        at = np.minimum(np.searchsorted(known, codes), len(known) - 1)
        wrong = known[at] != codes
        if wrong.any():
            colour, place = _first(found, wrong)
            raise DatasetError(
                f'{printable(path)} holds the colour {colour} at {place}; "palette" in '
                f"dataset.json lists {_some(self.colours)}. Add the colour and a class for it; "
                'name the id of the class in "ignore" if it does not count.'
            )
        mask: Mask = order[at].astype(np.uint8)
        return mask


def decide(description: Description, files: Iterable[Path]) -> Coding:
    """Find out the coding of all masks of a data set.

    `description.mask_values` settles it. If it is None:

    - Masks that hold colours are read by the palette of `dataset.json`, if that has one. Indices of
      a file's own palette are ids.
    - Masks of two classes that hold 0 and 255 (or 65535), and never 1, hold the two classes, unless
      `dataset.json` names values to ignore. So do masks with 1 bit.
    - All others hold ids.

    Files that cannot be read do not count.

    Raises:
        DatasetError: the masks contradict each other, or a file's palette that of `dataset.json`.
            The message names the files, and the key that settles it.
    """
    palette = description.palette
    if description.mask_values == "palette":
        return _by_palette(description)
    plain = Coding(description.values, description.ignore_values)
    if description.mask_values is not None:
        return plain
    guess = len(description.classes) == 2 and description.ignore is None
    held: dict[Path, frozenset[int]] = {}
    for path in files:
        try:
            form = form_of(read_bytes(path))
            if form.palette is not None and palette is not None:
                _check_indices(description, path, form.palette)
            if not guess and (palette is None or not form.several):
                continue
            values = _values(path)
        except SourceError:  # reading it tells
            continue
        if values is not None:
            held[path] = values
        elif palette is not None:
            return _by_palette(description)
    grays = {colour[0]: index for index, colour in enumerate(palette or ()) if len({*colour}) == 1}
    if guess:
        return _of_two(description, held, grays) or plain
    used = frozenset[int]().union(*held.values())
    if used <= set(grays) and not used <= {*plain.values, *plain.ignore}:
        return _by_palette(description)
    return plain


def one_channel(found: Ids, path: Path) -> Ids:
    """Ids (H, W) of a file whose channels are all equal.

    Raises:
        DatasetError: the channels differ, some pixels are transparent, or values have fractions.
    """
    if found.ndim == 3:
        found = _opaque(found, path)
        differ = (found != found[..., :1]).any(axis=2)
        if differ.any():
            colour, place = _first(found, differ)
            raise DatasetError(
                f"{printable(path)} holds colours, such as {colour} at {place}; expected class "
                "ids. List the colour of each class in dataset.json: "
                '"palette": [[r, g, b], ...].'
            )
        found = found[..., 0]
    if found.dtype.kind == "f":
        whole = found == np.round(found)  # NaN is not
        if not whole.all():
            value, place = _first(found, ~whole)
            raise DatasetError(
                f"{printable(path)} holds {value} at {place}; expected whole class ids. Save the "
                "mask with integers."
            )
    return found


def _of_two(
    description: Description, held: dict[Path, frozenset[int]], grays: dict[int, int]
) -> Coding | None:
    """The coding of masks of two classes that are black and white; None if they hold ids."""
    first, second = description.classes
    white = next((each for each in WHITES if any(each in values for values in held.values())), None)
    if white is None:
        if any(_ONE_BIT in values for values in held.values()):
            return Coding((0, 1), notice=f"masks with 1 bit: black is {first!r}, white {second!r}.")
        return None
    with_white = [path for path, values in held.items() if white in values]
    with_one = [path for path, values in held.items() if 1 in values]
    if set(with_white) & set(with_one):
        return None
    if with_one:
        raise DatasetError(
            f"{printable(with_white[0])} holds {white}, and {printable(with_one[0])} holds 1. If "
            f"{white} is not {second!r} but stands for pixels that do not count, set "
            f'"ignore": {white} in {description.path}. If the masks hold 0 and {white}, set '
            f'"mask_values": [0, {white}] and correct those with 1.'
        )
    values = (0, white) if grays.keys() != {0, white} or grays[0] == 0 else (white, 0)
    black, shown = (first, second) if values[0] == 0 else (second, first)
    notice = (
        f"masks with 0 and {white}: 0 is {black!r}, {white} {shown!r}. "
        f'"mask_values": {list(values)} in dataset.json says so without a look at all of them; '
        f'"ignore": {white} says that {white} does not count.'
    )
    return Coding(values, (), notice=notice)


def _by_palette(description: Description) -> Coding:
    colours = description.palette
    assert colours is not None  # `read_description` looked
    for index, colour in enumerate(colours):
        if (first := colours.index(colour)) != index:
            names = f"{description.classes[first]!r} and {description.classes[index]!r}"
            raise DatasetError(
                f'{description.path}: "palette" gives {names} the same colour, {list(colour)}. '
                "Masks that hold colours need one for each class."
            )
    return Coding(description.values, description.ignore_values, colours)


def _check_indices(description: Description, path: Path, own: npt.NDArray[np.uint8]) -> None:
    """DatasetError if the palette of a file gives a class's colour to the index of another."""
    palette = description.palette
    assert palette is not None
    count = min(len(palette), len(own))
    if [tuple(colour) for colour in own[:count].tolist()] == list(palette[:count]):
        return
    for index in np.unique(read_ids(path)).tolist():
        colour = tuple(own[index].tolist()) if index < len(own) else None
        if colour in palette and (index >= len(palette) or palette[index] != colour):
            name = description.classes[palette.index(colour)]
            raise DatasetError(
                f"{printable(path)}: index {index} of its palette has the colour {list(colour)}, "
                f'which {description.path} gives to {name!r}. Set "mask_values" there to "palette" '
                'to read the colours, or to "ids" to read the indices.'
            )


def _read_colours(path: Path) -> npt.NDArray[np.uint8]:
    """Colours (H, W, 3) that a mask shows; gray and 1 bit are colours too."""
    found: Ids = read_ids(path)
    palette = form_of(read_bytes(path)).palette
    if palette is not None:
        if int(found.max()) >= len(palette):
            raise DatasetError(
                f"{printable(path)} holds index {found.max()}; its palette has {len(palette)}."
            )
        shown: npt.NDArray[np.uint8] = palette[found]
        return shown
    if found.dtype == bool:
        found = found.astype(np.uint8) * np.uint8(255)
    if found.ndim == 2:
        found = np.repeat(found[..., None], 3, axis=2)
    found = _opaque(found, path)
    if found.dtype != np.uint8 or found.shape[2] != 3:
        raise DatasetError(
            f"{printable(path)} holds {found.shape[2]} channels of {found.dtype}; expected colours "
            "with 8 bit."
        )
    return found


def _values(path: Path) -> frozenset[int] | None:
    """Distinct values of a mask; None if it holds colours, or else what no mask may hold."""
    found = read_ids(path)
    if found.dtype == bool:
        return frozenset([_ONE_BIT])
    try:
        found = one_channel(found, path)
    except DatasetError:
        return None
    return frozenset(int(value) for value in np.unique(found))


def _opaque(found: Ids, path: Path) -> Ids:
    """The channels without alpha, which must be opaque."""
    if found.shape[2] not in (2, 4):
        return found
    alpha = found[..., -1]
    full = 1.0 if found.dtype.kind == "f" else np.iinfo(found.dtype).max
    if (alpha != full).any():
        raise DatasetError(
            f"{printable(path)} is transparent at {_first(alpha, alpha != full)[1]}; expected a "
            "mask without transparency."
        )
    opaque: Ids = found[..., :-1]
    return opaque


def _first(found: Ids, flags: npt.NDArray[np.bool_]) -> tuple[Any, str]:
    """The first value or colour that is flagged, and where it is."""
    row, column = (int(each) for each in np.argwhere(flags)[0])
    return found[row, column].tolist(), f"row {row}, column {column}"


def _packed(colours: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint32]:
    """RGB (..., 3) as one number each."""
    wide = colours.astype(np.uint32)
    return np.asarray(wide[..., 0] << 16 | wide[..., 1] << 8 | wide[..., 2], np.uint32)


def _some(colours: Palette) -> str:
    """The first colours."""
    listed = ", ".join(str(list(colour)) for colour in colours[:8])
    return listed + (", ..." if len(colours) > 8 else "")
