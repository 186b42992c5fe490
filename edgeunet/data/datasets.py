"""Data sets: a folder in a layout that is known, see `layouts`, with or without `dataset.json`.

Ours is `DIR/{train,val}/images/*`, `DIR/{train,val}/masks/*`, `DIR/dataset.json`, and optional
`DIR/{train,val}/instances/*`, 8 or 16 bit, 0 = none, which separate instances of one class.
`description` says what `dataset.json` holds, `samples` which files belong together, and `masks`
what the values in a mask mean.
"""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache, cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ..errors import DatasetError, printable
from ..metrics import IGNORE, Mask
from . import images
from .description import (
    Declared,
    Description,
    Palette,
    ViewDescription,
    parse_palette,
    read_declared,
)
from .layouts import Layout, open_layout, recognise
from .masks import Coding, decide, one_channel
from .palettes import default_palette
from .samples import MaskFile, Sample, Split

_log = logging.getLogger(__name__)

SPLITS = ("train", "val")


@dataclass(frozen=True)
class Dataset:
    """A data set.

    layout: the folder, understood. classes: names by class id. palette: RGB colours by class id.
    ids: maps the ids of the layout to class ids, with `IGNORE` for those that do not count; None if
    they are the same.
    """

    layout: Layout
    name: str
    classes: tuple[str, ...]
    palette: Palette
    ids: tuple[int, ...] | None = None

    @property
    def root(self) -> Path:
        """The folder."""
        return self.layout.root

    @property
    def description(self) -> Description:
        """What `dataset.json` and the layout say."""
        return self.layout.description

    @cached_property
    def coding(self) -> Coding:
        """What the values in the masks mean, see `decide`; what it found out is logged once."""
        masks: list[Path] = []
        for split in SPLITS:
            try:
                samples = self.layout.split(split).samples
            except DatasetError:  # told by who reads that split
                continue
            masks += [each.labels.path for each in samples if isinstance(each.labels, MaskFile)]
        coding = decide(self.description, masks)
        for notice in self._notices(coding):
            _tell(f"{printable(self._told_by)}: {notice}")
        return coding

    @property
    def _told_by(self) -> Path:
        path = self.description.path
        return path if path.is_file() else self.root

    @property
    def notices(self) -> tuple[str, ...]:
        """What a user must know of how the masks are read."""
        return self._notices(self.coding)

    def _notices(self, coding: Coding) -> tuple[str, ...]:
        out = [self.description.classes[index] for index in self.description.ignored]
        listed = ", ".join(f"{index} {name}" for index, name in enumerate(self.classes))
        ignored = f'"ignore" takes {", ".join(out)} out. The ids of the net: {listed}.'
        told = (*self.layout.notices, coding.notice, ignored if out else "")
        return tuple(text for text in told if text)

    def split(self, name: str) -> Split:
        """Samples of `train` or `val`, and what is left out there; errors as of the layout."""
        found, coding = self.layout.split(name), self.coding
        return replace(
            found,
            samples=tuple(
                replace(
                    each,
                    labels=replace(each.labels, coding=coding)
                    if isinstance(each.labels, MaskFile)
                    else each.labels,
                    ids=self.ids,
                )
                for each in found.samples
            ),
        )

    @cached_property
    def digest(self) -> str:
        """Hash of the names and sizes of the files of both splits.

        Tells whether a folder still holds what it held, without reading it. Errors as of `split`.
        """
        found = hashlib.sha256()
        sizes: dict[Path, int] = {}
        for split in SPLITS:
            for sample in self.split(split).samples:
                for path in (sample.image, sample.labels.path):
                    if path not in sizes:
                        sizes[path] = path.stat().st_size if path.exists() else -1
                    name = Path(os.path.relpath(path, self.root)).as_posix()
                    found.update(f"{split} {name} {sizes[path]}\n".encode())
        return found.hexdigest()

    def samples(self, split: str) -> list[Sample]:
        """Images of `train` or `val` with their masks, in natural order of their names."""
        return list(self.split(split).samples)

    def check_classes(self, expected: Sequence[str], owner: str) -> None:
        """DatasetError for classes that cannot be those expected.

        Names may differ, since not each net tells its own. The same names in another order are
        another meaning of each id.

        Args:
            owner: of the expected ones, such as "the net has".
        """
        self.check_count(len(expected), owner)
        if tuple(expected) != self.classes and sorted(expected) == sorted(self.classes):
            ours, theirs = (", ".join(map(printable, names)) for names in (self.classes, expected))
            raise DatasetError(
                f"{printable(self.root)} has the classes in another order, {ours}; {owner} "
                f"{theirs}. Give masks whose ids count in that order."
            )

    def check_count(self, expected: int, owner: str) -> None:
        """DatasetError unless there are as many classes as expected. owner: "the net has"."""
        if len(self.classes) != expected:
            raise DatasetError(f"{self.root} has {len(self.classes)} classes, {owner} {expected}.")


@cache
def _tell(text: str) -> None:
    """Log a text, once."""
    _log.warning("%s", text)


def open_dataset(root: str | Path, layout: str | None = None) -> Dataset:
    """Open a folder as a data set.

    Args:
        layout: a name in `layouts.LAYOUTS`. None: what `dataset.json` says, or what the folder's
            files show without doubt.

    Raises:
        DatasetError: what is missing, or wrong with the files that describe the data set.
        UnknownNameError: no layout of that name.
    """
    declared = _declared(Path(root))
    if not isinstance(declared, ViewDescription):
        return _dataset(open_layout(Path(root), declared, layout))
    if layout is not None:
        raise DatasetError(f"{declared.path} is a view; its source has the layout. Leave it out.")
    return _view(declared)


def is_dataset(path: str | Path, layout: str | None = None) -> bool:
    """Whether a path is a folder that `open_dataset` takes: named, described, or recognised."""
    folder = Path(path)
    if not folder.is_dir():
        return False
    return layout is not None or (folder / "dataset.json").is_file() or bool(recognise(folder))


def _declared(root: Path) -> Declared | ViewDescription:
    path = root / "dataset.json"
    try:
        return read_declared(path)
    except (FileNotFoundError, NotADirectoryError):
        return Declared(path, {})


def _dataset(layout: Layout) -> Dataset:
    described = layout.description
    kept = [id_ for id_ in range(len(described.classes)) if id_ not in described.ignored]
    palette = described.palette or default_palette(len(described.classes))
    ids = (kept.index(n) if n in kept else IGNORE for n in range(len(described.classes)))
    return Dataset(
        layout=layout,
        name=described.name,
        classes=tuple(described.classes[id_] for id_ in kept),
        palette=tuple(palette[id_] for id_ in kept),
        ids=tuple(ids) if described.ignored else None,
    )


def _view(view: ViewDescription) -> Dataset:
    """The data set that a view names as its source, with some of its classes merged."""
    declared = _declared(view.source)
    if isinstance(declared, ViewDescription):
        raise DatasetError(
            f"{view.path} is a view of {view.source}, which is a view too. Name its source."
        )
    source = _dataset(open_layout(view.source, declared))
    merged = {old: new for new, members in view.merge.items() for old in members}
    if odd := sorted(set(merged) - set(source.classes)):
        raise DatasetError(
            f'{view.path}: "merge" names {odd[0]!r}; {source.root} has: '
            f"{', '.join(source.classes)}."
        )
    names = [merged.get(name, name) for name in source.classes]
    classes = tuple(dict.fromkeys(names))  # in order of first appearance
    if len(classes) < 2:
        raise DatasetError(f"{view.path} leaves one class, {classes[0]!r}; expected two or more.")
    before = source.ids or tuple(range(len(source.classes)))
    return replace(
        source,
        name=view.name or source.name,
        classes=classes,
        palette=parse_palette(view.palette, len(classes), view.path)
        or default_palette(len(classes)),
        ids=tuple(IGNORE if id_ == IGNORE else classes.index(names[id_]) for id_ in before),
    )


def read_mask(path: Path, *, num_classes: int) -> Mask:
    """Read class ids (H, W); DatasetError if an id is neither a class nor 255."""
    return Coding(tuple(range(num_classes))).read(path)


def read_labels(sample: Sample, *, num_classes: int) -> Mask:
    """Read the class ids (H, W) of a sample; errors as of `Labels.read`."""
    labels = sample.labels.read()
    if sample.ids is not None:
        new_ids = np.full(IGNORE + 1, IGNORE, np.uint8)
        new_ids[: len(sample.ids)] = sample.ids
        labels = new_ids[labels]
    wrong = labels[(labels >= num_classes) & (labels != IGNORE)]
    if wrong.size:
        raise DatasetError(
            f"{sample.labels.path} holds class id {wrong[0]} of {num_classes} classes."
        )
    return labels


def read_instances(path: Path) -> npt.NDArray[np.int32]:
    """Read instance ids (H, W), 0 = none; errors as of `one_channel`."""
    instances = one_channel(images.read_ids(path), path).astype(np.int64)
    if instances.min() < 0 or instances.max() > np.iinfo(np.int32).max:
        raise DatasetError(
            f"{printable(path)} holds {instances.min()} to {instances.max()}; expected ids of "
            "instances, 0 for none."
        )
    return instances.astype(np.int32)
