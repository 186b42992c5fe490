"""LabelMe: a JSON file of shapes beside each image, or in another folder.

Later shapes are on top, as in LabelMe's own export. `labels.txt` names the classes and their order,
else they are the labels found, by name. Images without a file are not labelled, and not used.

Wada, "labelme: Image Polygonal Annotation with Python", github.com/wkentaro/labelme.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from math import hypot
from pathlib import Path
from typing import Any

import numpy as np

from ...errors import DatasetError, SourceError, printable
from ...listing import IMAGE_SUFFIXES
from ..description import Declared
from ..images import decode
from ..samples import Sample
from .base import Family, Layout, counted, first_of, split_name
from .classes import DrawnClasses, drawn_classes, names_beside
from .drawing import Drawing, Outlines, Shape, box, ellipse, outline_notices
from .files import files_below, read_json, within
from .splits import divide

_LINES = ("line", "linestrip", "point", "points")
_LOOKED_AT = 3  # files, to recognise the layout
_HEAD = 4096  # bytes


@dataclass(frozen=True)
class _Labelled:
    """A file of shapes. shapes: as they are in the file."""

    path: Path
    image: Path
    size: tuple[int, int] | None
    shapes: tuple[dict[str, Any], ...]

    @property
    def labels(self) -> list[str]:
        return [shape["label"] for shape in self.shapes]


def read(root: Path, declared: Declared) -> Layout:
    """Splits are the folders `train` and `val`, if there are any."""
    files: list[_Labelled] = []
    others, images = [], []
    for path in files_below(root):
        if path.suffix.lower() in IMAGE_SUFFIXES:
            images.append(path)
        elif path.suffix.lower() == ".json" and path != declared.path:
            content = read_json(path)
            if isinstance(content, dict) and isinstance(content.get("shapes"), list):
                files.append(_labelled(root, path, content))
            else:
                others.append(path)
    if not files:
        raise DatasetError(f"{printable(root)} has no file of LabelMe; expected {FAMILY.form}.")
    names = names_beside(root)
    if names is None:
        names = sorted({label for file in files for label in file.labels})
    classes = drawn_classes(declared, names)
    found: dict[str, list[Sample]] = {}
    outlines, lines = [], 0
    for file in files:
        reader = _Shapes(file, classes)
        first = file.path.relative_to(root).parts[0]
        split = split_name(first) if first != file.path.name else ""
        split = split if split in ("train", "val", "test") else ""
        found.setdefault(split, []).append(reader.sample())
        outlines.append(reader.outlines)
        lines += reader.lines
    notices = outline_notices(outlines)
    if lines:
        notices.append(f"{counted(lines, 'line or point', 'lines and points')} cover nothing")
    unused = [f"{counted(len(others), 'other JSON file')} {first_of(others)}"] if others else []
    labelled = {file.image for file in files}
    if left := [path for path in images if path not in labelled]:
        unused.append(f"{counted(len(left), 'image')} without a file of shapes {first_of(left)}")
    return divide("labelme", classes.description, found, notices=notices, unused=unused)


def _labelled(root: Path, path: Path, content: dict[str, Any]) -> _Labelled:
    for shape in content["shapes"]:
        if not isinstance(shape, dict) or not isinstance(shape.get("label"), str):
            raise DatasetError(f"{printable(path)} has a shape without a label: {str(shape)[:60]}.")
    height, width = content.get("imageHeight"), content.get("imageWidth")
    size = (height, width) if type(height) is int and type(width) is int else None
    return _Labelled(path, _image(root, path, content), size, tuple(content["shapes"]))


def _image(root: Path, path: Path, content: dict[str, Any]) -> Path:
    """The image that a file names, or the one of its name beside it."""
    name = content.get("imagePath")
    if isinstance(name, str) and name:
        image = within(
            root, str(path.parent.relative_to(root) / name.replace("\\", "/")), told_by=path
        )
        if image.is_file():
            return image
    for image in sorted(path.parent.glob("*")):
        if image.stem == path.stem and image.suffix.lower() in IMAGE_SUFFIXES:
            return image
    raise DatasetError(
        f"{printable(path)} is of the image {printable(name)}, which is not there, and no image "
        f"{printable(path.stem)} is beside it. Add the image, or remove the file."
    )


class _Shapes:
    """Turns the shapes of a file into labels."""

    def __init__(self, file: _Labelled, classes: DrawnClasses) -> None:
        self._file, self._classes = file, classes
        self.outlines = Outlines(file.path)
        self.lines = 0

    def sample(self) -> Sample:
        file = self._file
        shapes = tuple(
            made
            for number, shape in enumerate(file.shapes, 1)
            if (made := self._shape(number, shape)) is not None
        )
        background = self._classes.background
        return Sample(
            file.image, Drawing(file.path, file.image, file.size, shapes, background=background)
        )

    def _shape(self, number: int, shape: dict[str, Any]) -> Shape | None:
        label, kind = shape["label"], str(shape.get("shape_type") or "polygon")
        path = printable(self._file.path)
        class_id = self._classes.id_of(label, f"{path}: shape {number}")
        if kind in _LINES:
            self.lines += 1
            return None
        points = shape.get("points")
        if kind != "polygon" and not _are_two(points):
            raise DatasetError(
                f"{path}: shape {number}, {kind}, has no two points: {points!r:.60}."
            )
        if kind == "mask":
            return Shape(class_id, pieces=(self._piece(number, shape),))
        corners = _CORNERS.get(kind)
        if corners is None:
            raise DatasetError(
                f"{path}: shape {number} is of the kind {printable(kind)!r}; expected "
                f"{', '.join(_CORNERS)}, mask, or a line or point, which covers nothing."
            )
        named = partial("{}, shape {}".format, printable(self._file.path.name), number)
        outline = self.outlines.add(corners(points), self._file.size, named)
        return None if outline is None else Shape(class_id, (outline,))

    def _piece(self, number: int, shape: dict[str, Any]) -> Any:
        """A mask: a PNG as text, with the corner where it lies."""
        path = f"{self._file.path}, shape {number}"
        try:
            content = base64.b64decode(shape.get("mask") or "", validate=True)
            pixels = decode(content, name=f"the mask of {path}").pixels
        except (SourceError, binascii.Error, TypeError, ValueError) as error:
            raise DatasetError(f"{printable(path)} has no mask: {error}") from None
        left, top = (int(value) for value in shape["points"][0])
        return top, left, np.asarray(pixels[..., 0]) != 0


def _are_two(points: object) -> bool:
    return (
        isinstance(points, list)
        and len(points) == 2
        and all(
            isinstance(point, list)
            and len(point) == 2
            and all(isinstance(value, (int, float)) and abs(value) < 1e9 for value in point)
            for point in points
        )
    )


def _box(points: Any) -> Sequence[Any]:
    return box(*points[0], *points[1])


def _circle(points: Any) -> Sequence[Any]:
    """The second point is on the rim."""
    (x, y), (right, down) = points
    radius = hypot(right - x, down - y)
    return ellipse(x, y, radius, radius)


_CORNERS: dict[str, Callable[[Any], Any]] = {
    "polygon": lambda points: points,
    "rectangle": _box,
    "circle": _circle,
}


def _is_labelme(root: Path) -> bool:
    """Whether the first JSON files are of LabelMe."""
    found = 0
    for pattern in ("*.json", "*/*.json"):
        for path in sorted(root.glob(pattern))[:_LOOKED_AT]:
            if path.name == "dataset.json" or not path.is_file():
                continue
            try:
                with path.open("rb") as file:  # a file of COCO takes long to read
                    if b'"shapes"' not in (head := file.read(_HEAD)) and b'"flags"' not in head:
                        return False
                content = read_json(path)
            except (DatasetError, OSError):
                return False
            if not isinstance(content, dict) or not {"shapes", "imagePath"} <= set(content):
                return False
            found += 1
    return found > 0


FAMILY = Family(
    "labelme",
    "NAME.json with shapes beside NAME.jpg",
    (("*.json",), ("*/*.json",)),
    read,
    _is_labelme,
)
