"""Which names are classes, which the background, and who must name them."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from edgeunet.data.description import Declared
from edgeunet.data.layouts.classes import (
    DrawnClasses,
    ask_for_classes,
    drawn_classes,
    listed_classes,
    names_beside,
)
from edgeunet.errors import DatasetError
from edgeunet.metrics import IGNORE


def drawn(names: list[str], **info: object) -> DrawnClasses:
    return drawn_classes(Declared(Path("set/dataset.json"), dict(info)), names)


def test_background_comes_first_whoever_names_it() -> None:
    found = drawn(["car", "person"])
    assert found.description.classes == ("background", "car", "person")
    assert (found.background, dict(found.ids)["person"]) == (0, 2)
    found = drawn(["car", "_background_", "__ignore__"])
    assert found.description.classes == ("_background_", "car")
    assert found.id_of("__ignore__", "x") == IGNORE


def test_dataset_json_orders_the_classes() -> None:
    found = drawn(["car", "person"], classes=["person", "background", "car"])
    assert (found.background, found.id_of("car", "x")) == (1, 2)
    with pytest.raises(DatasetError, match='"classes" names no background'):
        drawn(["car", "person"], classes=["person", "car"])


def test_unknown_category_is_named() -> None:
    with pytest.raises(
        DatasetError,
        match=r"^a\.xml: box 1 has the category 'cra', which is unknown\. Did you mean",
    ):
        drawn(["car", "crab"]).id_of("cra", "a.xml: box 1")


def test_categories_are_some_and_each_is_there_once() -> None:
    for names in ([], ["background"], ["void"]):
        with pytest.raises(DatasetError, match="has no category to learn"):
            drawn(names)
    with pytest.raises(DatasetError, match="has two categories of the name 'car'"):
        drawn(["car", "car"])


def test_colours_become_the_palette_if_they_differ() -> None:
    declared = Declared(Path("set/dataset.json"), {})
    colours = {"car": (9, 0, 0), "crab": (0, 9, 0)}
    found = drawn_classes(declared, ["car", "crab"], colours=colours)
    assert found.description.palette == ((0, 0, 0), (9, 0, 0), (0, 9, 0))
    same = drawn_classes(declared, ["car", "crab"], colours={**colours, "crab": (9, 0, 0)})
    assert same.description.palette is None


def test_void_among_listed_names_does_not_count() -> None:
    assert listed_classes(["a", "b"]) == {"classes": ["a", "b"]}
    assert listed_classes(["a", "Void", "b"]) == {
        "classes": ["a", "b"],
        "ignore": [1, 255],
        "mask_values": [0, 2],
    }


def test_names_beside_or_advice_with_the_values(tmp_path: Path) -> None:
    assert names_beside(tmp_path) is None
    (tmp_path / "labels.txt").write_text("a\nb\n")
    assert names_beside(tmp_path) == ["a", "b"]
    mask = tmp_path / "m.png"
    assert cv2.imwrite(str(mask), np.uint8([[0, 3, 255]]))
    (tmp_path / "bad.png").write_bytes(b"x")
    error = ask_for_classes(Declared(tmp_path / "dataset.json", {}), [mask, tmp_path / "bad.png"])
    assert "the masks looked at hold 0, 3, 255. Write a file classes.txt" in str(error)
