"""`dataset.json`: its keys, and the files that they describe.

A data set:

    classes       names by class id
    name          of the data set, by default its folder's
    palette       [r, g, b] of each class; masks that hold colours are read by it
    ignore        id of pixels that do not count, or a list of ids; 255 by default
    mask_values   how masks code classes, if `masks.decide` is not to find out: "ids", "palette",
                  or a list with the value of each class, such as [0, 255]
    mask, image   names of the files, such as "{stem}_mask"; or paths, such as
                  "{split}/labels/{stem}_mask.png"
    layout        how the folder is laid out, a name in `layouts.LAYOUTS`; it may name the classes
    train, val    lists of samples, such as "lists/train.txt"; val may be a share, such as 0.2
    seed          draws that share; 0 by default
    task          a note for people

A view of another data set has "source", its folder, and "merge", the classes that become one:
`{"source": "../tiles", "merge": {"defect": ["crack", "fray"]}}`. It may have a name, a palette and
a task of its own.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from ..bundle.schema import SchemaError, load_json
from ..errors import DatasetError, did_you_mean
from ..metrics import IGNORE

LAYOUT = "Layout of the data set, such as voc or coco; `edgeunet data --help` lists them."
"""Help text of the option that names a layout."""

Colour = tuple[int, int, int]
Palette = tuple[Colour, ...]

DATASET_KEYS = (
    *("classes", "name", "palette", "ignore", "mask_values", "mask", "image", "task"),
    *("layout", "train", "val", "seed"),
)
VIEW_KEYS = ("source", "merge", "name", "palette", "task")
_STEM = "{stem}"
_SPLIT = "{split}"


@dataclass(frozen=True)
class Division:
    """Which samples train and which validate.

    train, val: files that list them, relative to the data set. share: of the samples that is drawn
    for validation, None if it is not given. seed: of that draw.
    """

    train: str | None = None
    val: str | None = None
    share: float | None = None
    seed: int = 0

    @property
    def given(self) -> bool:
        """Whether `dataset.json` says how to divide."""
        return (self.train, self.val, self.share) != (None, None, None)


@dataclass(frozen=True)
class Description:
    """What `dataset.json`, or the layout of a folder, says about a data set.

    path: of the file. classes: names by class id. palette: None if it names none. ignore: values in
    the masks' files of pixels that do not count, None if it names none. mask_values: "ids",
    "palette", the value of each class, or None. image, mask: names without suffix, where `{stem}`
    is what the files of a sample have in common, or paths, where `{split}` is the folder of a
    split; mask is None if it is to be found out.
    """

    path: Path
    classes: tuple[str, ...]
    name: str
    palette: Palette | None = None
    ignore: tuple[int, ...] | None = None
    mask_values: Literal["ids", "palette"] | tuple[int, ...] | None = None
    image: str = _STEM
    mask: str | None = None
    division: Division = Division()

    @property
    def values(self) -> tuple[int, ...]:
        """Value of each class in the masks' files, unless they hold colours."""
        listed = isinstance(self.mask_values, tuple)
        return self.mask_values if listed else tuple(range(len(self.classes)))  # type: ignore[return-value]

    @property
    def ignored(self) -> tuple[int, ...]:
        """Ids of classes that "ignore" takes out."""
        return tuple(
            index for index, value in enumerate(self.values) if value in self.ignore_values
        )

    @property
    def ignore_values(self) -> tuple[int, ...]:
        """Values that do not count; 255 by default, unless it is the value of a class."""
        if self.ignore is not None:
            return self.ignore
        return () if IGNORE in self.values else (IGNORE,)


@dataclass(frozen=True)
class ViewDescription:
    """What `dataset.json` says about a view.

    merge: the classes that become one, by its name. palette: as it is in the file, because `merge`
    and the source tell how long it must be.
    """

    path: Path
    source: Path
    merge: dict[str, tuple[str, ...]]
    name: str | None = None
    palette: object = None


@dataclass(frozen=True)
class Declared:
    """What `dataset.json` says, before the layout of the folder adds what it does not say.

    path: where the file is, or would be. info: its keys, checked to be known.

    Example:
        >>> from pathlib import Path; from edgeunet.data.description import Declared
        >>> declared = Declared(Path("set/dataset.json"), {"val": 0.1})
        >>> declared.described(classes=["sky", "road"], ignore=11).ignore
        (11,)
    """

    path: Path
    info: dict[str, Any]

    @property
    def layout(self) -> str | None:
        """Name of the layout; None if it is to be found out."""
        given = self.info.get("layout")
        if "layout" in self.info and not _is_name(given):
            raise DatasetError(f'{self.path}: "layout" is {given!r}; expected the name of one.')
        return given

    @property
    def division(self) -> Division:
        """How samples are divided; DatasetError for values that this cannot have."""
        return _division(self.path, self.info)

    def pattern(self, key: str) -> str | None:
        """The pattern of "image" or "mask"."""
        return _pattern(self.path, self.info, key)

    def described(self, **found: object) -> Description:
        """The description, where `found` gives the keys that the file does not.

        Values, colours and ids of the layout are those of its classes. They are not used if the
        file lists another number of classes.
        """
        own, theirs = self.info.get("classes"), found.get("classes")
        if isinstance(own, list) and isinstance(theirs, (list, tuple)) and len(own) != len(theirs):
            found = {"classes": own}
        listed = {key: _as_lists(value) for key, value in found.items() if value is not None}
        return _dataset(self.path, {**listed, **self.info})


def read_declared(path: Path) -> Declared | ViewDescription:
    """Read `dataset.json`.

    Raises:
        FileNotFoundError: no such file.
        DatasetError: not JSON, an unknown key, or no view of another data set.

    Example:
        >>> from pathlib import Path; from edgeunet.data.description import read_declared
        >>> _ = Path("dataset.json").write_text('{"layout": "coco", "val": 0.2}')
        >>> read_declared(Path("dataset.json")).layout
        'coco'
    """
    try:
        info = load_json(path)
    except SchemaError as error:
        raise DatasetError(f"{path} {error}") from None
    if not isinstance(info, dict):
        raise DatasetError(f'{path} has no list "classes" of class names.')
    if _is_nnunet(info):
        return Declared(
            path,
            {"layout": "nnunet"}
            | {key: value for key, value in info.items() if key in ("train", "val", "seed")},
        )
    view = "source" in info or "merge" in info
    known = VIEW_KEYS if view else DATASET_KEYS
    for key in info:
        if key not in known:
            raise DatasetError(
                f"{path} has an unknown key {key!r}.{did_you_mean(key, known)} Known for a "
                f"{'view' if view else 'data set'}: {', '.join(known)}."
            )
    return _view(path, info) if view else Declared(path, info)


def _as_lists(value: object) -> object:
    """Lists instead of tuples, as JSON has them."""
    return [_as_lists(each) for each in value] if isinstance(value, (list, tuple)) else value


def _is_nnunet(info: dict[str, Any]) -> bool:
    """Whether it is the `dataset.json` of nnU-Net, which has the name of ours."""
    ours = {"classes", "layout", "source"} & set(info)
    return not ours and isinstance(info.get("labels"), dict)


def _dataset(path: Path, info: dict[str, Any]) -> Description:
    classes = info.get("classes")
    if not isinstance(classes, list):
        raise DatasetError(f'{path} has no list "classes" of class names.')
    if not 2 <= len(classes) <= IGNORE:
        raise DatasetError(f"{path} names {len(classes)} classes; 2 to {IGNORE} are possible.")
    for name in classes:
        if not _is_name(name) or classes.count(name) > 1:
            raise DatasetError(
                f'{path}: "classes" holds {name!r}; expected names, each once and not empty.'
            )
    described = Description(
        path=path,
        classes=tuple(classes),
        name=_name(path, info) or path.parent.absolute().name,
        palette=parse_palette(info.get("palette"), len(classes), path),
        ignore=_ignore(path, info),
        mask_values=_mask_values(path, info, len(classes)),
        image=_pattern(path, info, "image") or _STEM,
        mask=_pattern(path, info, "mask"),
        division=_division(path, info),
    )
    if described.mask_values == "palette" and described.palette is None:
        raise DatasetError(f'{path}: "mask_values" is "palette", but there is no "palette".')
    left = [name for index, name in enumerate(classes) if index not in described.ignored]
    if len(left) < 2:
        out = ", ".join(repr(classes[index]) for index in described.ignored)
        raise DatasetError(
            f'{path}: "ignore" takes {out} out of the classes and leaves {len(left)}; expected two '
            'or more that count. Remove it from "ignore" to learn it too.'
        )
    return described


def _view(path: Path, info: dict[str, Any]) -> ViewDescription:
    merge = info.get("merge")
    if (
        not isinstance(info.get("source"), str)
        or not isinstance(merge, dict)
        or not all(_is_name(name) for name in merge)
        or not all(
            isinstance(members, list) and all(map(_is_name, members)) for members in merge.values()
        )
    ):
        raise DatasetError(
            f'{path} is not a view of a data set: expected {{"source": DIR, "merge": {{NAME: '
            f'[CLASS, ...]}}}}, optionally with "name" and "palette"; got {json.dumps(info)}.'
        )
    members = [name for names in merge.values() for name in names]
    if twice := [name for name in members if members.count(name) > 1]:
        raise DatasetError(f'{path}: "merge" names {twice[0]!r} twice.')
    return ViewDescription(
        path=path,
        source=path.parent / info["source"],
        merge={name: tuple(names) for name, names in merge.items()},
        name=_name(path, info),
        palette=info.get("palette"),
    )


def _is_name(value: object) -> bool:
    return isinstance(value, str) and bool(value.strip())


def _name(path: Path, info: dict[str, Any]) -> str | None:
    for key in ("name", "task"):
        if key in info and not _is_name(info[key]):
            raise DatasetError(f'{path}: "{key}" is {info[key]!r}; expected text.')
    return info.get("name")


def _is_value(value: object) -> bool:
    """Whether an integer mask may hold it."""
    return type(value) is int and -(2**15) <= value < 2**16


def _ignore(path: Path, info: dict[str, Any]) -> tuple[int, ...] | None:
    if "ignore" not in info:
        return None
    given = info["ignore"]
    values = given if isinstance(given, list) else [given]
    if not all(_is_value(value) for value in values):
        raise DatasetError(
            f'{path}: "ignore" is {given!r}; expected the id of pixels that do not count, or a '
            "list of ids."
        )
    return tuple(values)


def _mask_values(
    path: Path, info: dict[str, Any], num_classes: int
) -> Literal["ids", "palette"] | tuple[int, ...] | None:
    given = info.get("mask_values")
    if "mask_values" not in info or given in ("ids", "palette"):
        return given
    if (
        isinstance(given, list)
        and all(_is_value(value) for value in given)
        and len(set(given)) == len(given) == num_classes
    ):
        return tuple(given)
    raise DatasetError(
        f'{path}: "mask_values" is {given!r}; expected "ids", "palette", or a list of the value of '
        f"each of the {num_classes} classes, all different."
    )


def _pattern(path: Path, info: dict[str, Any], key: str) -> str | None:
    if key not in info:
        return None
    given = info[key]
    if isinstance(given, str) and given.count(_STEM) == 1 and given.count(_SPLIT) <= 1:
        parts = given.split("/")
        if len(parts) == 1 and _SPLIT not in given and "\\" not in given:
            return given
        if "\\" not in given and not {"", ".", ".."} & set(parts):
            return given
    raise DatasetError(
        f'{path}: "{key}" is {given!r}; expected a file name with {_STEM} once, such as '
        f'"{_STEM}_{key}", or a path below the data set, such as "{_SPLIT}/{key}s/{_STEM}".'
    )


def _division(path: Path, info: dict[str, Any]) -> Division:
    train, val, seed = info.get("train"), info.get("val"), info.get("seed", 0)
    share = val if isinstance(val, float) else None
    if "train" in info and not _is_name(train):
        raise DatasetError(f'{path}: "train" is {train!r}; expected a file that lists samples.')
    if "val" in info and not _is_name(val) and not (share is not None and 0 < share < 1):
        raise DatasetError(
            f'{path}: "val" is {val!r}; expected the share of the samples that validates, such as '
            "0.2, or a file that lists them."
        )
    if type(seed) is not int or seed < 0:
        raise DatasetError(f'{path}: "seed" is {seed!r}; expected a whole number from 0.')
    if share is None and "seed" in info:
        raise DatasetError(f'{path}: "seed" draws nothing without a share. Set "val" to 0.2.')
    if share is not None and train is not None:
        raise DatasetError(
            f'{path}: "val" is a share and "train" a list; expected either a share or lists.'
        )
    return Division(train, None if share is not None else val, share, seed)


def parse_palette(given: object, num_classes: int, path: Path) -> Palette | None:
    """The "palette" of the `dataset.json` at `path`, None if it has none."""
    if given is None:
        return None
    if not isinstance(given, list) or len(given) != num_classes:
        raise DatasetError(f'{path}: "palette" must list one [r, g, b] for each class.')
    for entry in given:
        numbers = entry if isinstance(entry, list) and len(entry) == 3 else [None]
        if not all(type(value) is int and 0 <= value <= 255 for value in numbers):
            raise DatasetError(f'{path}: "palette" holds {entry!r}; expected [r, g, b], 0..255.')
    return tuple((red, green, blue) for red, green, blue in given)
