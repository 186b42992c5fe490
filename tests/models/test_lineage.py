"""What weights and their ancestors were trained on."""

from __future__ import annotations

from dataclasses import replace

import pytest

from edgeunet.models import Checkpoint
from edgeunet.models.lineage import data_of, lineage, saw_val, tell_of_val

FIRST = {"data": "streets", "with_val": True, "epochs": 3}


@pytest.fixture
def cells() -> Checkpoint:
    return Checkpoint.open("cells", "unet")


def later(before: object, **known: object) -> dict[str, object]:
    return {"data": "roads", "with_val": False, "initial": before, **known}


def test_all_generations_count() -> None:
    assert data_of(later(FIRST)) == {"roads", "streets"}
    assert saw_val(later(later(FIRST)), "streets")
    assert not saw_val(later(FIRST), "roads"), "val of roads chose the epoch at most"
    assert data_of(None) == set() and not saw_val(None, "roads")


def test_a_generation_that_names_no_data_has_those_of_the_next() -> None:
    unnamed = {"with_val": True}
    assert saw_val(later(unnamed), "roads") and not saw_val(later(unnamed), "streets")


@pytest.mark.parametrize("odd", ["streets", ["streets"], 3, {"data": ["streets"]}, {"data": {}}])
def test_what_is_no_record_tells_nothing(odd: object) -> None:
    assert data_of(later(odd)) == {"roads"} and not saw_val(later(odd), "streets")


def test_lineage_is_what_a_card_keeps(cells: Checkpoint) -> None:
    assert lineage(cells) == {"data": "cells", **cells.card.training}
    bare = replace(cells, card=replace(cells.card, training={}))
    assert lineage(bare) == {"data": "cells", "weights": cells.path.name}


def test_the_warning_names_weights_and_data(
    cells: Checkpoint, caplog: pytest.LogCaptureFixture
) -> None:
    tell_of_val(cells, "cells", "Beware.")
    assert caplog.text == ""
    known = replace(cells, card=replace(cells.card, training=FIRST, data="streets"))
    tell_of_val(known, "streets", "Beware.")
    assert f"{cells.path} was trained on val of streets too. Beware." in caplog.text
