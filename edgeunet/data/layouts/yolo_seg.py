"""YOLO segmentation: `data.yaml`, `images/{split}` and `labels/{split}/NAME.txt`; Roboflow's too.

Lines are a class and the corners of a polygon in shares of width and height. Of polygons that
overlap, the smaller one is seen, as in Ultralytics' training. A line with a box only marks pixels
that do not count. An image without a file shows background.

The format: docs.ultralytics.com/datasets/segment.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any

from ...errors import DatasetError, printable
from ...listing import IMAGE_SUFFIXES
from ...metrics import IGNORE
from ..description import Declared
from ..samples import Sample
from .base import Family, Layout, counted
from .classes import DrawnClasses, drawn_classes
from .drawing import Drawing, Outlines, Shape, box, outline_notices
from .files import files_below, read_lines, read_yaml, within
from .splits import divide

_SPLITS = ("train", "val", "test")


def read(root: Path, declared: Declared) -> Layout:
    """Classes are the background, and the names of `data.yaml`."""
    path = _yaml(root)
    content = read_yaml(path)
    if not isinstance(content, dict) or "names" not in content:
        raise DatasetError(f"{printable(path)} has no names; expected {FAMILY.form}.")
    names = _names(path, content["names"])
    classes = drawn_classes(declared, list(names.values()))
    found: dict[str, list[Sample]] = {}
    readers = []
    for split in _SPLITS:
        for image in _images(root, path, content, split):
            reader = _File(root, image, names, classes)
            readers.append(reader)
            found.setdefault(split, []).append(reader.sample())
    if not readers:
        raise DatasetError(
            f"{printable(path)} leads to no image: train is {content.get('train')!r}, val "
            f"{content.get('val')!r}. Correct the paths; expected {FAMILY.form}."
        )
    boxes, shapes = sum(each.boxes for each in readers), sum(each.lines for each in readers)
    if boxes and boxes == shapes:
        raise DatasetError(
            f"{printable(root)} holds boxes, labels for detection; expected the corners of "
            "polygons. Export it for segmentation."
        )
    notices = outline_notices(each.outlines for each in readers)
    if boxes:
        notices.append(f"{counted(boxes, 'object')} with a box only: what is in it does not count")
    if bare := sum(not each.lines for each in readers):
        notices.append(f"{counted(bare, 'image')} without an object: all background")
    return divide("yolo-seg", classes.description, found, notices=notices)


def _yaml(root: Path) -> Path:
    if (root / "data.yaml").is_file():
        return root / "data.yaml"
    found = sorted([*root.glob("*.yaml"), *root.glob("*.yml")])
    if len(found) != 1:
        raise DatasetError(
            f"{printable(root)} has {len(found)} YAML files; expected data.yaml. Keep one."
        )
    return found[0]


def _names(path: Path, given: Any) -> dict[int, str]:
    """Names by class, from a list or a mapping."""
    names = dict(enumerate(given)) if isinstance(given, list) else given
    if isinstance(names, dict) and all(
        type(index) is int and isinstance(name, (str, int)) for index, name in names.items()
    ):
        return {index: str(names[index]) for index in sorted(names)}
    raise DatasetError(f"{printable(path)}: names is {str(given)[:80]}; expected one a class.")


def _images(root: Path, path: Path, content: dict[Any, Any], split: str) -> Iterator[Path]:
    """Images of a split: those of a folder, or of a list."""
    given = content.get(split, content.get("valid") if split == "val" else None)
    places = given if isinstance(given, list) else [given] if given else []
    base = content.get("path")
    for place in map(str, places):
        # Roboflow writes "../train/images" for a folder beside the file.
        plain = place.removeprefix("../")
        tried = [within(root, plain, told_by=path)]
        if isinstance(base, str) and not PurePosixPath(base).is_absolute() and ".." not in base:
            tried.append(within(root, f"{base}/{plain}", told_by=path))
        where = next((each for each in tried if each.exists()), None)
        if where is None:
            if split == "test":
                continue
            raise DatasetError(
                f"{printable(path)} names {printable(place)} for {split}, which is not in "
                f"{printable(root)}. Correct the path."
            )
        if where.is_file():
            yield from (within(root, line, told_by=where) for line in read_lines(where))
        else:
            for file in files_below(root, where):
                if file.suffix.lower() in IMAGE_SUFFIXES:
                    yield file


class _File:
    """Reads the labels of an image."""

    def __init__(
        self, root: Path, image: Path, names: dict[int, str], classes: DrawnClasses
    ) -> None:
        parts = list(image.relative_to(root).parts)
        at = next((n for n in reversed(range(len(parts) - 1)) if parts[n] == "images"), None)
        if at is not None:
            parts[at] = "labels"
        self.image, self.path = image, root.joinpath(*parts).with_suffix(".txt")
        self._names, self._classes = names, classes
        self.outlines = Outlines(self.path)
        self.boxes = self.lines = 0

    def sample(self) -> Sample:
        lines = read_lines(self.path) if self.path.is_file() else []
        self.lines = len(lines)
        shapes = (self._shape(number, line) for number, line in enumerate(lines, 1))
        return Sample(
            self.image,
            Drawing(
                self.path,
                self.image,
                shapes=tuple(shape for shape in shapes if shape is not None),
                background=self._classes.background,
                scaled=True,
                smaller_on_top=True,
            ),
        )

    def _shape(self, number: int, line: str) -> Shape | None:
        where = f"{printable(self.path)}, line {number}"
        first, *rest = line.split()
        try:
            values = [float(each) for each in rest]
        except ValueError:
            values = []
        if not first.isdecimal() or len(values) < 4 or len(values) % 2:
            raise DatasetError(f"{where}: {line[:60]!r}; expected a class and x, y of corners.")
        if int(first) not in self._names:
            known = ", ".join(f"{index} {name}" for index, name in self._names.items())
            raise DatasetError(
                f"{where} has the category {first}, which is unknown. Known: {printable(known)}. "
                "Correct it, or add it to names."
            )
        class_id = self._classes.id_of(self._names[int(first)], where)
        if is_box := len(values) == 4:
            self.boxes += 1
            x, y, width, height = values
            half, tall = width / 2, height / 2
            values = [v for corner in box(x - half, y - tall, x + half, y + tall) for v in corner]
        named = partial("{}, line {}".format, printable(self.path.name), number)
        outline = self.outlines.add(values, (1, 1), named)
        if outline is None:
            return None
        return Shape(IGNORE if is_box else class_id, (outline,), below=is_box)


FAMILY = Family(
    "yolo-seg",
    "data.yaml, images/{train,val}, labels/{train,val}; or train/images, train/labels",
    (
        ("*.yaml", "images", "labels"),
        ("data.yaml", "train/images", "train/labels"),
    ),
    read,
)
