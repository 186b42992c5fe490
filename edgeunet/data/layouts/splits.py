"""Divides samples into those that train and those that validate."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path, PurePosixPath

import numpy as np

from ...errors import DatasetError, printable
from ...listing import natural_key
from ..description import Description, Division
from ..samples import Sample, Split
from .base import Layout, counted, first_of, split_name
from .files import read_lines, within

Names = tuple[Path, Sequence[str]]
"""A file, and the names of samples that it lists."""

SHARE = 0.2
"""Of the samples that validates if neither the folder nor `dataset.json` says which."""


def divide(
    family: str,
    description: Description,
    found: Mapping[str, Sequence[Sample]],
    *,
    lists: Mapping[str, Names] | None = None,
    group: Callable[[Sample], str] | None = None,
    notices: Iterable[str] = (),
    unused: Iterable[str] = (),
) -> Layout:
    """Make a layout of the samples found, by the name of their split; "" if there is none.

    Lists and share of `dataset.json` come first, then the folder's `lists`, then the folder's
    splits. If nothing says what validates, `SHARE` of the samples is drawn.

    Args:
        group: what is drawn together, such as views of one object. None: each sample alone.

    Raises:
        DatasetError: an image in both splits, a list that names no sample, a share of a data set
            that is divided already.
    """
    root, division = description.path.parent, description.division
    by_split: dict[str, list[Sample]] = {}
    for name, samples in found.items():
        by_split.setdefault(split_name(name), []).extend(samples)
    known = dict(lists or {})
    for name, given in (("train", division.train), ("val", division.val)):
        if given is not None:
            known[name] = names_of(within(root, given, told_by=description.path))
    if division.share is not None and division.val is None:
        known = {}
    told = list(notices)
    chosen = _chosen(by_split, known, division, root, group, told)
    _check_overlap(chosen, root)
    used = {sample.image for samples in chosen.values() for sample in samples}
    left = list(unused)
    for name, samples in by_split.items():
        if rest := [sample for sample in samples if sample.image not in used]:
            where = f"{name or 'the images'}: {counted(len(rest), 'labelled image')}"
            left.append(f"{where} in neither train nor val {first_of([e.image for e in rest])}")
    splits = {
        name: Split(tuple(sorted(samples, key=lambda sample: natural_key(sample.image))))
        for name, samples in chosen.items()
    }
    return Layout(family, description, splits, tuple(told), tuple(left))


def _chosen(
    by_split: dict[str, list[Sample]],
    lists: Mapping[str, Names],
    division: Division,
    root: Path,
    group: Callable[[Sample], str] | None,
    told: list[str],
) -> dict[str, list[Sample]]:
    """Samples of "train" and "val"."""
    everything = [sample for samples in by_split.values() for sample in samples]
    if lists:
        picked = {name: _listed(everything, names, root) for name, names in lists.items()}
        taken = {sample.image for samples in picked.values() for sample in samples}
        for name in {"train", "val"} - set(picked):
            # Of a data set with splits, only the missing one; else whatever no list names.
            pool = by_split.get(name) or by_split.get("", [])
            picked[name] = [sample for sample in pool if sample.image not in taken]
        return picked
    if by_split.get("val") and division.share is not None:
        raise DatasetError(
            f"{printable(root)} has its own val ({counted(len(by_split['val']), 'image')}), and "
            f'"val": {division.share:g} in dataset.json asks for a share. Remove "val" there.'
        )
    pool = by_split.get("train", []) + by_split.get("", [])
    if by_split.get("val"):
        return {"train": pool, "val": by_split["val"]}
    if not pool:
        raise DatasetError(
            f"{printable(root)} holds no labelled image for training; it holds: "
            f"{', '.join(f'{len(each)} of {name}' for name, each in by_split.items()) or 'none'}."
        )
    share = SHARE if division.share is None else division.share
    if division.share is None:
        told.append(
            f"the folder names no images for validation: {share:.0%} of its training images, drawn "
            f'with seed {division.seed}. "val" in dataset.json takes another share, or a list.'
        )
    val = _drawn(pool, share, division.seed, group or (lambda sample: str(sample.image)))
    return {
        "train": [sample for sample in pool if sample.image not in val],
        "val": [sample for sample in pool if sample.image in val],
    }


def _drawn(
    pool: Sequence[Sample], share: float, seed: int, group: Callable[[Sample], str]
) -> set[Path]:
    """Images of whole groups, about the share of all, at least one and not all."""
    groups: dict[str, list[Path]] = {}
    for sample in sorted(pool, key=lambda sample: natural_key(sample.image)):
        groups.setdefault(group(sample), []).append(sample.image)
    if len(groups) < 2:
        raise DatasetError(
            f"{printable(pool[0].image)} and others are of one group; expected two or more to draw "
            'those for validation. Name a list of them as "val" in dataset.json.'
        )
    order = np.random.default_rng(seed).permutation(len(groups))
    names = list(groups)
    drawn: set[Path] = set()
    for index in order[:-1]:
        if drawn and len(drawn) >= share * len(pool):
            break
        drawn.update(groups[names[index]])
    return drawn


def names_of(path: Path) -> Names:
    """The lines of a file."""
    return path, read_lines(path)


def _listed(samples: Sequence[Sample], names: Names, root: Path) -> list[Sample]:
    """The samples that a file lists, by path or name, with or without suffix."""
    file, lines = names
    by_name: dict[str, set[int]] = {}
    for index, sample in enumerate(samples):
        path = PurePosixPath(sample.image.relative_to(root).as_posix())
        for name in {str(path), str(path.with_suffix("")), path.name, path.stem}:
            by_name.setdefault(name, set()).add(index)
    chosen: dict[int, None] = {}
    for line in lines:
        first = line.split()[0]
        tried = [line, first, PurePosixPath(first).name, PurePosixPath(first).stem]
        found = next((by_name[name] for name in tried if name in by_name), set())
        if len(found) != 1:
            problem = "names several samples" if found else "is no image with a mask"
            raise DatasetError(
                f"{printable(file)} lists {printable(first)}, which {problem} of "
                f"{printable(root)}. Correct the list, or add what is missing."
            )
        chosen.update(dict.fromkeys(found))
    return [samples[index] for index in chosen]


def _check_overlap(chosen: Mapping[str, Sequence[Sample]], root: Path) -> None:
    """DatasetError if an image is in both splits: the validation would praise what was learnt."""
    val = {sample.image for sample in chosen["val"]}
    both = [sample.image for sample in chosen["train"] if sample.image in val]
    if both:
        raise DatasetError(
            f"{counted(len(both), 'image')} of {printable(root)} in train and in val too, "
            f"{printable(both[0].relative_to(root))} the first. Remove it from one of the two."
        )
