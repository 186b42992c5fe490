"""Folds of a training split: every image is held out once, with all that belong to it."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgeunet.data.cells import write_dataset
from edgeunet.data.datasets import Dataset, open_dataset
from edgeunet.data.folds import HELD_OUT, Fold, check_copies, split_folds
from edgeunet.errors import DatasetError, UsageError

FILMS = {"dusk": 5, "noon": 3, "rain": 2, "snow": 2}


@pytest.fixture(scope="module")
def films(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """Frames of four films of different lengths, such as dusk_0."""
    root = tmp_path_factory.mktemp("films") / "data"
    write_dataset(root, train=sum(FILMS.values()), val=1, height=32, width=32)
    names = [f"{film}_{frame}" for film, count in FILMS.items() for frame in range(count)]
    for kind in ("images", "masks", "instances"):
        for path, name in zip(sorted((root / "train" / kind).iterdir()), names, strict=True):
            path.rename(path.with_stem(name))
    return open_dataset(root)


def images(fold: Fold, split: str) -> list[Path]:
    return [sample.image for sample in fold.dataset.samples(split)]


@pytest.mark.parametrize("group_by", [None, "([^/]+)_", "^train/images/[a-z]+"])
@pytest.mark.parametrize("count", [2, 3, 4])
def test_every_image_is_held_out_once(films: Dataset, count: int, group_by: str | None) -> None:
    folds = split_folds(films, count, group_by)
    assert [fold.name for fold in folds] == [str(index + 1) for index in range(count)]
    everything = [sample.image for sample in films.samples("train")]
    held = [image for fold in folds for image in images(fold, HELD_OUT)]
    assert sorted(held) == sorted(everything)
    for fold in folds:
        assert set(images(fold, "train")) == set(everything) - set(images(fold, HELD_OUT))
        assert fold.held_out == len(images(fold, HELD_OUT)) > 0
        assert images(fold, "val") == [sample.image for sample in films.samples("val")]


def test_groups_stay_together_in_folds_of_about_one_size(films: Dataset) -> None:
    folds = split_folds(films, 3, "([^/]+)_")
    assert [fold.groups for fold in folds] == [("dusk",), ("noon",), ("rain", "snow")]
    assert [fold.held_out for fold in folds] == [5, 3, 4]
    for fold in folds:
        assert {path.stem.split("_")[0] for path in images(fold, HELD_OUT)} == set(fold.groups)


def test_a_group_without_parentheses_is_all_that_matches(films: Dataset) -> None:
    (first, *_) = split_folds(films, 4, "images/[a-z]+")
    assert first.groups == ("images/dusk",)


def test_folds_without_groups_are_runs_of_neighbours(films: Dataset) -> None:
    everything = [sample.image for sample in films.samples("train")]
    folds = split_folds(films, 5)
    assert [image for fold in folds for image in images(fold, HELD_OUT)] == everything
    assert {fold.held_out for fold in folds} == {2, 3}


def test_copies_must_be_held_out_together(films: Dataset) -> None:
    first, second, *_, last = (sample.image for sample in films.samples("train"))
    folds = split_folds(films, 2)
    check_copies(folds, [(first, second)])
    said = "snow_1.png is in fold 2, and in fold 1 as .*dusk_0.png .pairs: 1.: .*learnt by heart"
    with pytest.raises(DatasetError, match=said):
        check_copies(folds, [(first, second), (first, last)])


@pytest.mark.parametrize(
    ("count", "group_by", "error", "said"),
    [
        (1, None, UsageError, "got 1 folds; expected 2 or more"),
        (13, None, DatasetError, "has 12 training images, too few for 13 folds"),
        (5, "([^/]+)_", DatasetError, r"finds 4 groups .*\(dusk, noon, rain and 1 more\).*5 folds"),
        (2, "([", UsageError, "no regular expression: unterminated character set"),
        (2, "(noon|rain|snow)_|dusk", DatasetError, "does not match 5 of 12 .*dusk_0"),
        (2, "(noon|rain|snow)_", DatasetError, "does not match 5 of 12 .*dusk_0"),
    ],
)
def test_refuses_what_gives_no_folds(
    films: Dataset, count: int, group_by: str | None, error: type[Exception], said: str
) -> None:
    with pytest.raises(error, match=said):
        split_folds(films, count, group_by)
