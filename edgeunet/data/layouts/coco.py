"""COCO: images and a JSON file of polygons and run lengths for each split.

`annotations/instances_{train,val}2017.json` with `train2017`, `val2017`; or one file for all, as
CVAT and Label Studio export it. Of objects that overlap, the smaller one is seen. Crowds
(`iscrowd`) are outlined roughly, and objects may have a box only: neither counts.

Lin et al., "Microsoft COCO", ECCV 2014; the format: cocodataset.org/#format-data.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from ...errors import DatasetError, printable
from ...metrics import IGNORE
from ..description import Declared
from ..samples import Sample
from .base import Family, Layout, counted, split_name
from .classes import DrawnClasses, drawn_classes
from .drawing import Drawing, Outlines, Points, Shape, box, check_runs, outline_notices, runs_of
from .files import read_json, within
from .splits import divide

ROBOFLOW = "_annotations.coco.json"


def read(root: Path, declared: Declared, *, family: str = "coco") -> Layout:
    """Classes are the background, and the categories in the order of their ids."""
    files = [_AnnotationFile(path, root) for path in annotation_files(root)]
    files = [each for each in files if each.annotations or each.split in ("", "train", "val")]
    if not files:
        raise DatasetError(f"{printable(root)} has no annotations of COCO; expected {FAMILY.form}.")
    names = list(dict.fromkeys(name for each in files for name in each.categories.values()))
    classes = drawn_classes(declared, names)
    found: dict[str, list[Sample]] = {}
    for each in files:
        found.setdefault(each.split, []).extend(each.samples(classes))
    return divide(
        family,
        classes.description,
        found,
        notices=[
            *outline_notices(each.outlines for each in files),
            *_notices(files),
        ],
    )


def annotation_files(root: Path) -> list[Path]:
    """Files with annotations of objects, from the usual places."""
    if found := sorted(root.glob(f"*/{ROBOFLOW}")) or sorted(root.glob(ROBOFLOW)):
        return found
    for folder in (root / "annotations", root):
        found = sorted(folder.glob("*.json"))
        if instances := [path for path in found if path.name.startswith("instances_")]:
            return instances
        if found := [path for path in found if path.name != "dataset.json"]:
            return found
    return []


def _split_of(path: Path) -> str:
    """Name of the split that a file is of, by its own or its folder's."""
    if path.name == ROBOFLOW:
        return split_name(path.parent.name)
    name = split_name(path.stem.removeprefix("instances_"))
    return name if name in ("train", "val", "test") else ""


@dataclass
class _AnnotationFile:
    """A file of annotations, checked as far as it is used."""

    path: Path
    root: Path
    outlines: Outlines = field(init=False)
    crowds: int = 0
    boxes: int = 0
    bare: int = 0

    def __post_init__(self) -> None:
        content = read_json(self.path)
        lists = [
            content.get(key) if isinstance(content, dict) else None
            for key in ("images", "annotations", "categories")
        ]
        if not all(isinstance(each, list) for each in (lists[0], lists[2])):
            raise DatasetError(
                f"{printable(self.path)} is no file of COCO: expected the lists images, "
                "annotations and categories."
            )
        self.images: list[Any] = lists[0] or []
        self.annotations: list[Any] = lists[1] or []
        self.outlines = Outlines(self.path)
        self.split = _split_of(self.path)
        self.categories = self._categories(lists[2] or [])

    def _categories(self, listed: Sequence[Any]) -> dict[int, str]:
        """Names by id, ascending."""
        names = {self._of(each, "id", int): self._of(each, "name", str) for each in listed}
        used = [each.get("category_id") for each in self.annotations if isinstance(each, dict)]
        # Roboflow's first category is the heading of the others.
        headings = [each.get("supercategory") for each in listed]
        return {
            id_: name
            for id_, name in sorted(names.items())
            if id_ != 0 or name not in headings or id_ in used
        }

    def _of(self, record: Any, key: str, kind: type) -> Any:
        value = record.get(key) if isinstance(record, dict) else None
        if not isinstance(value, kind) or isinstance(value, bool):
            raise DatasetError(
                f"{printable(self.path)}: {str(record)[:80]} has no {key!r} that is "
                f"{'text' if kind is str else 'a whole number'}."
            )
        return value

    def samples(self, classes: DrawnClasses) -> Iterator[Sample]:
        """Images with their annotations."""
        by_image: dict[int, list[Any]] = {self._of(each, "id", int): [] for each in self.images}
        for each in self.annotations:
            id_ = self._of(each, "image_id", int)
            if id_ not in by_image:
                raise DatasetError(
                    f"{printable(self.path)}: annotation {each.get('id')} is of image {id_}, which "
                    'is not among "images". Export the file anew.'
                )
            by_image[id_].append(each)
        folders = [folder for folder in self._folders() if folder.is_dir()]
        for record in self.images:
            image = self._image(record, folders)
            size = None
            if record.get("height") is not None and record.get("width") is not None:
                size = (self._of(record, "height", int), self._of(record, "width", int))
            listed = by_image[record["id"]]
            self.bare += not listed
            yield Sample(
                image,
                Drawing(
                    self.path,
                    image,
                    size,
                    tuple(self._shape(each, size, classes) for each in listed),
                    background=classes.background,
                    smaller_on_top=True,
                ),
            )

    def _folders(self) -> Iterator[Path]:
        name = self.path.stem.removeprefix("instances_")
        if self.path.name == ROBOFLOW:
            yield self.path.parent
        for top in (self.root, self.root / "images"):
            yield top / name
            if self.split:
                yield top / self.split
        yield from (self.root / "images", self.root, self.path.parent)

    def _image(self, record: Any, folders: Sequence[Path]) -> Path:
        name = self._of(record, "file_name", str)
        for folder in folders:
            path = within(self.root, str(folder.relative_to(self.root) / name), told_by=self.path)
            if path.is_file():
                return path
        places = ", ".join(printable(folder) for folder in folders)
        raise DatasetError(
            f"{printable(self.path)} names the image {printable(name)}, which is in none of "
            f"{places}. Add it, or remove it from the file."
        )

    def _shape(self, each: Any, size: tuple[int, int] | None, classes: DrawnClasses) -> Shape:
        id_ = self._of(each, "category_id", int)
        where = f"{printable(self.path)}: annotation {each.get('id')}"
        if id_ not in self.categories:
            listed = ", ".join(f"{key} {printable(name)}" for key, name in self.categories.items())
            raise DatasetError(
                f"{where} has the category {id_}, which is unknown. Known: {listed}. Correct it, "
                'or add it to "categories".'
            )
        class_id = classes.id_of(self.categories[id_], where)
        given, crowd = each.get("segmentation"), bool(each.get("iscrowd"))
        self.crowds += crowd
        class_id = IGNORE if crowd else class_id
        named = partial("annotation {}".format, each.get("id"))
        if isinstance(given, dict):
            return Shape(class_id, runs=self._runs(given, where), below=crowd)
        if not given:
            return self._box(each, size, where)
        flat = not isinstance(given, list) or not isinstance(given[0], list)
        polygons = [self.outlines.add(each, size, named) for each in ([given] if flat else given)]
        return Shape(class_id, _kept(polygons), below=crowd)

    def _box(self, each: Mapping[str, Any], size: tuple[int, int] | None, where: str) -> Shape:
        """An object without an outline: what is in its box does not count."""
        self.boxes += 1
        try:
            left, top, width, height = (float(value) for value in each.get("bbox") or ())
        except (TypeError, ValueError):
            raise DatasetError(f"{where} has neither an outline nor a box. Remove it.") from None
        corners = box(left, top, left + width, top + height)
        named = partial("box of annotation {}".format, each.get("id"))
        return Shape(IGNORE, _kept([self.outlines.add(corners, size, named)]), below=True)

    def _runs(self, given: Mapping[str, Any], where: str) -> Any:
        counts = given.get("counts")
        try:
            if isinstance(counts, str):
                return runs_of(counts)
            return check_runs(counts if isinstance(counts, list) else [None])
        except ValueError as error:
            raise DatasetError(f"{where} has run lengths that are none: {error}.") from None


def _kept(polygons: Sequence[Points | None]) -> tuple[Points, ...]:
    return tuple(each for each in polygons if each is not None)


def _notices(files: Sequence[_AnnotationFile]) -> Iterator[str]:
    boxes, total = sum(each.boxes for each in files), sum(len(each.annotations) for each in files)
    if total and boxes == total:
        raise DatasetError(
            f"{printable(files[0].path)} holds boxes without outlines; expected polygons or run "
            'lengths in "segmentation".'
        )
    if boxes:
        yield f"{counted(boxes, 'object')} with a box only: what is in it does not count"
    if crowds := sum(each.crowds for each in files):
        yield f"{counted(crowds, 'crowd')} (iscrowd): their pixels do not count"
    if bare := sum(each.bare for each in files):
        yield f"{counted(bare, 'image')} without an object: all background"


FAMILY = Family(
    "coco",
    "annotations/instances_{train,val}*.json with the images in train*, val* or images",
    (("annotations/instances_*.json",), ("result.json", "images")),
    read,
)
