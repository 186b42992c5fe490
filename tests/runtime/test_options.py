"""Options as dataclasses: what they refuse, and that they cannot be changed."""

from __future__ import annotations

import math
from dataclasses import FrozenInstanceError, fields
from typing import Any

import pytest

from edgeunet.data.fit import Reading
from edgeunet.errors import UsageError
from edgeunet.fields import choices_of, info_of, type_of
from edgeunet.runtime.options import LoadOptions, Tiling

FIELDS = {field.name: field for field in fields(LoadOptions)}


def test_nothing_is_chosen_by_default() -> None:
    chosen = {name: getattr(LoadOptions(), name) for name in FIELDS}
    assert chosen.pop("reading") == Reading()
    known = [
        "precision",
        "tiling",
        "target_fps",
        "provider",
        "processor",
        "device",
        "dla",
        "threads",
        "trust_engines",
    ]
    assert list(chosen) == known
    assert set(chosen.values()) == {None, False}


@pytest.mark.parametrize(
    "values",
    [
        {"precision": "int8"},
        {"tiling": Tiling(overlap=0.5)},
        {"target_fps": 0.5},
        {"device": 0, "dla": 0, "threads": 1},
    ],
)
def test_values_in_range_are_kept(values: dict[str, Any]) -> None:
    options = LoadOptions(**values)
    assert {name: getattr(options, name) for name in values} == values


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"precision": "half"}, "unknown precision 'half'. Known: bf16, fp16, fp32, int8."),
        ({"target_fps": 0}, "target_fps is 0; expected more than 0 and less than inf."),
        ({"target_fps": -25.0}, "target_fps is -25; expected more than 0 and less than inf."),
        ({"target_fps": math.inf}, "target_fps is inf; expected more than 0 and less than inf."),
        ({"target_fps": math.nan}, "target_fps is nan; expected more than 0 and less than inf."),
        ({"device": -1}, "device is -1; expected at least 0."),
        ({"dla": -1}, "dla is -1; expected at least 0."),
        ({"threads": 0}, "threads is 0; expected at least 1 and at most 1024."),
        ({"threads": 1025}, "threads is 1025; expected at least 1 and at most 1024."),
    ],
)
def test_values_out_of_range_are_refused(values: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError) as caught:
        LoadOptions(**values)
    assert str(caught.value) == message


def test_options_are_keyword_only_and_frozen() -> None:
    with pytest.raises(TypeError):
        LoadOptions("fp32")  # type: ignore[call-arg]
    with pytest.raises(FrozenInstanceError):
        LoadOptions().device = 1  # type: ignore[misc]


def test_types_and_choices_are_read_from_the_annotations() -> None:
    assert type_of(LoadOptions, FIELDS["device"]) is int
    assert type_of(LoadOptions, FIELDS["target_fps"]) is float
    assert choices_of(LoadOptions, FIELDS["precision"]) == ("fp32", "fp16", "bf16", "int8")
    assert choices_of(LoadOptions, FIELDS["device"]) == ()
    assert info_of(FIELDS["tiling"]).help == ""
