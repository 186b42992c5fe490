"""Families are told by signs, and splits by their names."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgeunet.data.description import Description
from edgeunet.data.layouts.base import Family, Layout, split_name
from edgeunet.errors import DatasetError


def never_read(root: Path, declared: object) -> Layout:
    raise AssertionError


@pytest.mark.parametrize(
    ("names", "found"), [((), None), (("a",), None), (("a", "b"), "a, b"), (("c",), "c")]
)
def test_all_signs_of_one_alternative_tell(
    tmp_path: Path, names: tuple[str, ...], found: str | None
) -> None:
    for name in names:
        (tmp_path / name).mkdir()
    signs = (("a", "b"), ("c",))
    family = Family("x", "a, b; or c", signs, never_read)
    assert family.found(tmp_path) == found
    assert family.resembles(tmp_path) == bool(names)
    assert Family("x", "", signs, never_read, lambda root: False).found(tmp_path) is None


@pytest.mark.parametrize(
    ("name", "split"),
    [("Train", "train"), ("tr", "train"), ("val2017", "val"), ("dev", "val"), ("TEST", "test")],
)
def test_splits_have_many_names(name: str, split: str) -> None:
    assert split_name(name) == split


def test_split_without_samples_is_an_error(tmp_path: Path) -> None:
    layout = Layout("voc", Description(tmp_path / "dataset.json", ("a", "b"), "x"))
    with pytest.raises(DatasetError, match="has no samples for val"):
        layout.split("val")
