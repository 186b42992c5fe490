"""What a training is made of: the input that it finds, and what the start and the caller say."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from edgeunet.data.datasets import open_dataset
from edgeunet.data.fit import Reading
from edgeunet.errors import UsageError
from edgeunet.training import recipe as recipes
from edgeunet.training.recipe import check_lessons, input_of, open_recipe, open_start
from support.training import SHORT

UNTOLD: dict[str, Any] = {"size": None, "channels": None, "levels": None}
NO_CHOICE: dict[str, Any] = {"resize": None, "fill": None, "filter": None, "raw": False}


def test_input_has_the_images_size_in_multiples_that_the_net_takes(data: Path) -> None:
    dataset = open_dataset(data)
    assert input_of("mobile_unet", dataset, reading=Reading()).height == 96
    spec = input_of("mobile_unet", dataset, size=(64, 128), reading=Reading(channels=("gray",)))
    assert (spec.height, spec.width, spec.channels) == (64, 128, ("gray",))


def test_arguments_go_before_those_of_the_weights(data: Path, tmp_path: Path) -> None:
    recipe, dataset = open_recipe(
        "mobile_unet",
        data,
        tmp_path,
        config=SHORT,
        **{**UNTOLD, **NO_CHOICE},
        initial="camvid",
        arguments={"cgm": True},
    )
    assert recipe.start is not None
    known = recipe.start.card.arguments
    assert recipe.arguments == {
        **{name: known[name] for name in known if name not in ("num_classes", "in_channels")},
        "cgm": True,
    }
    assert recipe.spec.mean == recipe.start.card.input.mean
    assert recipe.trainer(dataset, tmp_path, teacher=None).arguments["num_classes"] == 3
    assert list(tmp_path.iterdir()) == []


def test_procedural_frames_are_drawn_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("CELLS_TRAIN", 2), ("CELLS_VAL", 1), ("CELLS_SIZE", (64, 64))):
        monkeypatch.setattr(recipes, name, value)
    given = {"config": SHORT, **UNTOLD, **NO_CHOICE, "initial": None, "arguments": {}}
    for _ in range(2):
        _, dataset = open_recipe("unet", "cells", tmp_path, **given)
        assert len(dataset.samples("train")) == 2
        monkeypatch.setattr(recipes.cells, "write_dataset", None)


def test_what_cannot_be_a_lesson_is_refused() -> None:
    with pytest.raises(UsageError, match="got --unlabelled without --teacher"):
        check_lessons(None, "film.mp4", SHORT)
    check_lessons("mobile_unet:cells", "film.mp4", SHORT)
    with pytest.raises(UsageError, match="got --raw without --weights"):
        open_start("unet", None, size=None, reading=Reading(), raw=True)
