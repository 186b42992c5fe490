"""CVAT for images: `annotations.xml` and `images`.

Shapes of a higher `z_order` are on top, of equal ones the later. Subsets are the splits.

The format: docs.cvat.ai, "CVAT for image".
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np

from ...errors import DatasetError, printable
from ..description import Colour, Declared
from ..samples import Sample
from .base import Family, Layout, counted, split_name
from .classes import DrawnClasses, drawn_classes
from .drawing import Drawing, Inside, Outlines, Shape, box, ellipse
from .files import Node, read_xml, within
from .splits import divide

_NO_AREA = ("polyline", "points", "skeleton", "cuboid", "tag", "attribute")


def read(root: Path, declared: Declared) -> Layout:
    """Classes are the background, and the labels in the order of the task."""
    path = root / "annotations.xml"
    top = read_xml(path)
    images = top.find("image")
    if not images:
        film = bool(top.find("track"))
        raise DatasetError(
            f"{printable(path)} {'is of a video' if film else 'has no image'}. Export it as "
            '"CVAT for images", with the images.'
        )
    labels = list(_labels(top))
    names = list(dict.fromkeys(label.text_of("name") for label in labels))
    colours = {label.text_of("name"): _colour(label.text_of("color")) for label in labels}
    known = {name: colour for name, colour in colours.items() if colour is not None}
    classes = drawn_classes(declared, names, colours=known)
    reader = _Images(root, path, classes)
    found: dict[str, list[Sample]] = {}
    for image in images:
        subset = split_name(image.attributes.get("subset", ""))
        split = subset if subset in ("train", "val", "test") else ""
        found.setdefault(split, []).append(reader.sample(image))
    notices = reader.outlines.notices()
    if reader.without_area:
        kinds = ", ".join(sorted(set(reader.without_area)))
        notices.append(f"{counted(len(reader.without_area), 'shape')} cover nothing ({kinds})")
    if bare := sum(not image.children for image in images):
        notices.append(f"{counted(bare, 'image')} without a shape: all background")
    return divide("cvat", classes.description, found, notices=notices)


def _labels(node: Node) -> Iterator[Node]:
    """The labels of a task or a project, which stand at several places."""
    for child in node.children:
        if child.tag == "label" and child.find("name"):
            yield child
        elif child.tag != "image":
            yield from _labels(child)


def _colour(text: str) -> Colour | None:
    if not re.fullmatch("#[0-9a-fA-F]{6}", text):
        return None
    red, green, blue = bytes.fromhex(text[1:])
    return red, green, blue


class _Images:
    """Turns elements of images into samples."""

    def __init__(self, root: Path, path: Path, classes: DrawnClasses) -> None:
        self._root, self._path, self._classes = root, path, classes
        self.outlines = Outlines(path)
        self.without_area: list[str] = []

    def sample(self, image: Node) -> Sample:
        """An image with its shapes."""
        name, subset = image.attributes.get("name", ""), image.attributes.get("subset", "")
        places = [f"images/{name}", name]
        if subset:  # exports of one task have none
            places[1:1] = [f"images/{subset}/{name}", f"{subset}/{name}"]
        paths = [within(self._root, place, told_by=self._path) for place in places]
        file = next((path for path in paths if path.is_file()), None)
        if file is None:
            raise DatasetError(
                f"{printable(self._path)} names the image {printable(name)!r}, which is neither in "
                "images nor beside the file. Export the images too."
            )
        height, width = (int(self._number(image, side, name)) for side in ("height", "width"))
        size = height, width
        numbered = enumerate(image.children, 1)
        ordered = sorted(numbered, key=lambda pair: self._order(pair[1], name))
        shapes = (self._shape(number, shape, name, size) for number, shape in ordered)
        kept = tuple(shape for shape in shapes if shape is not None)
        background = self._classes.background
        return Sample(file, Drawing(self._path, file, size, kept, background=background))

    def _order(self, shape: Node, name: str) -> float:
        return self._number(shape, "z_order", name) if "z_order" in shape.attributes else 0

    def _number(self, node: Node, key: str, name: str) -> float:
        try:
            value = float(node.attributes[key])
        except (KeyError, ValueError):
            value = np.nan
        if not abs(value) < 1e9:  # NaN is not
            raise DatasetError(
                f"{printable(self._path)}: {node.tag} of {printable(name)} has no number "
                f"{key!r}, but {node.attributes.get(key)!r:.60}."
            )
        return value

    def _shape(self, number: int, shape: Node, name: str, size: tuple[int, int]) -> Shape | None:
        kind, where = (
            shape.tag,
            f"{printable(self._path)}: {shape.tag} {number} of {printable(name)}",
        )
        if kind in _NO_AREA:
            self.without_area.append(kind)
            return None
        class_id = self._classes.id_of(shape.attributes.get("label", ""), where)
        if kind == "mask":
            return Shape(class_id, pieces=(self._piece(shape, name, size),))
        outline = self.outlines.add(
            self._corners(shape, name, where),
            size,
            partial("{} {} of {}".format, kind, number, printable(name)),
        )
        return None if outline is None else Shape(class_id, (outline,))

    def _corners(self, shape: Node, name: str, where: str) -> object:
        number = partial(self._number, shape, name=name)
        if shape.tag == "polygon":
            return [pair.split(",") for pair in shape.attributes.get("points", "").split(";")]
        if shape.tag == "box":
            corners = box(number("xtl"), number("ytl"), number("xbr"), number("ybr"))
        elif shape.tag == "ellipse":
            corners = ellipse(number("cx"), number("cy"), number("rx"), number("ry"))
        else:
            raise DatasetError(
                f"{where} is of an unknown kind; expected polygon, box, ellipse, mask or "
                f"{', '.join(_NO_AREA)}."
            )
        if "rotation" not in shape.attributes:
            return corners
        angle = np.deg2rad(number("rotation"))  # clockwise, as y goes down
        turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
        points = np.asarray(corners)
        centre = points.mean(0)
        turned: object = (points - centre) @ turn + centre
        return turned

    def _piece(self, shape: Node, name: str, size: tuple[int, int]) -> tuple[int, int, Inside]:
        """A mask: runs outside and inside in turn, row by row within its box."""
        left, top, width, height = (
            int(self._number(shape, key, name)) for key in ("left", "top", "width", "height")
        )
        runs = shape.attributes.get("rle", "").replace(" ", "").split(",")
        if all(run.isdecimal() and len(run) < 10 for run in runs) and width > 0 and height > 0:
            counts = np.array(runs, np.int64)
            if counts.sum() == width * height <= size[0] * size[1]:
                filled = np.repeat(np.arange(len(counts)) % 2 == 1, counts)
                return top, left, filled.reshape(height, width)
        raise DatasetError(
            f"{printable(self._path)}: a mask of {printable(name)} has run lengths that do not "
            f"fill its box of {height}x{width}. Export it anew."
        )


FAMILY = Family("cvat", "annotations.xml, images", (("annotations.xml",),), read)
