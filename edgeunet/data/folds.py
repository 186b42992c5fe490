"""Parts of a training split that are held out in turn, so that a recipe is judged on all of it.

Frames of one film or place resemble each other: a net that has seen one of them is judged too well
on the next. So images that belong together stay in one fold.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

from ..errors import DatasetError, UsageError, printable
from .datasets import Dataset
from .layouts.base import Layout
from .samples import Sample, Split

HELD_OUT = "held out"
"""The split of a fold's data set that its net is judged on."""


@dataclass(frozen=True)
class Fold:
    """A data set without the images that are held out, which are its split `HELD_OUT`.

    name: a number, from 1. groups: names of the groups that are held out; none if images were
    divided by their order.
    """

    name: str
    dataset: Dataset
    groups: tuple[str, ...]

    @property
    def held_out(self) -> int:
        """Number of images."""
        return len(self.dataset.samples(HELD_OUT))


def split_folds(dataset: Dataset, count: int, group_by: str | None = None) -> tuple[Fold, ...]:
    """Divide the training images into folds of about the same size; val stays as it is.

    Args:
        count: of folds.
        group_by: a regular expression that finds, in an image's path within the data set, what
            images of one film or place have in common: its first group, or all that it matches.
            None: each fold is a run of images in the order of their names, which keeps most
            neighbours together.

    Raises:
        UsageError: less than two folds; an expression that is none. DatasetError: images that the
            expression does not match, or fewer groups, or images, than folds.

    Example:
        >>> from edgeunet.data import cells; from edgeunet.data.datasets import open_dataset
        >>> from edgeunet.data.folds import split_folds; from pathlib import Path
        >>> cells.write_dataset(Path("cells"), train=6, val=1, height=64, width=96)
        >>> [fold.held_out for fold in split_folds(open_dataset("cells"), 3)]
        [2, 2, 2]
    """
    if count < 2:
        raise UsageError(f"got {count} folds; expected 2 or more.")
    samples = dataset.samples("train")
    if len(samples) < count:
        raise DatasetError(
            f"{printable(dataset.root)} has {len(samples)} training images, too few for {count} "
            "folds. Pass fewer."
        )
    if group_by is None:
        ends = [len(samples) * index // count for index in range(count + 1)]
        runs = [samples[start:end] for start, end in pairwise(ends)]
        return tuple(_fold(dataset, index, run, ()) for index, run in enumerate(runs))
    groups = _grouped(dataset, samples, group_by)
    if len(groups) < count:
        raise DatasetError(
            f"{printable(group_by)} finds {len(groups)} groups in the training images of "
            f"{printable(dataset.root)} ({_listed(list(groups))}), too few for {count} folds."
        )
    parts: list[list[str]] = [[] for _ in range(count)]
    sizes = [0] * count
    for name in sorted(groups, key=lambda name: -len(groups[name])):
        smallest = sizes.index(min(sizes))
        parts[smallest].append(name)
        sizes[smallest] += len(groups[name])
    return tuple(
        _fold(dataset, index, [each for name in part for each in groups[name]], part)
        for index, part in enumerate(parts)
    )


def check_copies(folds: Sequence[Fold], copies: Iterable[tuple[Path, Path]]) -> None:
    """Refuse to judge a net on an image that it was taught under another name.

    Args:
        copies: pairs of images with the same content, see `SplitContents`.

    Raises:
        DatasetError: the two of a pair are in different folds.
    """
    held = {each.image: fold.name for fold in folds for each in fold.dataset.samples(HELD_OUT)}
    apart = [pair for pair in copies if held[pair[0]] != held[pair[1]]]
    if apart:
        first, other = apart[0]
        raise DatasetError(
            f"{printable(other)} is in fold {held[other]}, and in fold {held[first]} as "
            f"{printable(first)} (pairs: {len(apart)}): what was learnt by heart would be "
            "praised. Remove one of the two, or group images so that copies stay together."
        )


def _fold(dataset: Dataset, index: int, held: Sequence[Sample], groups: Sequence[str]) -> Fold:
    images = {sample.image for sample in held}
    layout = dataset.layout
    train = layout.split("train")

    def part(*, held_out: bool) -> Split:
        kept = (each for each in train.samples if (each.image in images) == held_out)
        return replace(train, samples=tuple(kept))

    splits = {
        "train": part(held_out=False),
        "val": layout.split("val"),
        HELD_OUT: part(held_out=True),
    }
    # A plain layout: that of the folder may list its files anew.
    parted = Layout(layout.family, layout.description, splits, layout.notices, layout.unused)
    return Fold(str(index + 1), replace(dataset, layout=parted), tuple(groups))


def _grouped(dataset: Dataset, samples: Sequence[Sample], group_by: str) -> dict[str, list[Sample]]:
    """Samples by the name of their group."""
    try:
        pattern = re.compile(group_by)
    except re.error as error:
        raise UsageError(
            f"got {printable(group_by)} to group images by; it is no regular expression: {error}."
        ) from error
    groups: dict[str, list[Sample]] = {}
    without = []
    for sample in samples:
        path = sample.image.relative_to(dataset.root).as_posix()
        found = pattern.search(path)
        name = None if found is None else found[1 if pattern.groups else 0]
        if name is None:  # or its first group took no part
            without.append(path)
        else:
            groups.setdefault(name, []).append(sample)
    if without:
        raise DatasetError(
            f"{printable(group_by)} does not match {len(without)} of {len(samples)} training "
            f"images of {printable(dataset.root)}: {_listed(without)}."
        )
    return groups


def _listed(names: Sequence[str]) -> str:
    """The first few of them."""
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return ", ".join(printable(name) for name in names[:3]) + more
