"""Fields of option dataclasses: types, choices and bounds."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Any, Literal

import pytest

from edgeunet.errors import UnknownNameError, UsageError
from edgeunet.fields import FieldInfo, check, choices_of, describe, info_of, type_of


@dataclass(frozen=True)
class Tea:
    kind: Literal["black", "green"] = field(default="black", metadata=describe("Kind."))
    cups: int | None = field(default=None, metadata=describe("Cups.", ge=1, le=9))
    heat: tuple[float, float] = field(default=(60, 90), metadata=describe(gt=0, lt=100))
    milk: str = field(default="none", metadata=describe(choices=("none", "oat")))
    name: str = ""

    def __post_init__(self) -> None:
        check(self)


FIELDS = {each.name: each for each in fields(Tea)}


def test_types_are_resolved_without_none() -> None:
    assert type_of(Tea, FIELDS["cups"]) is int
    assert type_of(Tea, FIELDS["heat"]) == tuple[float, float]


def test_choices_come_from_the_type_or_the_metadata() -> None:
    assert choices_of(Tea, FIELDS["kind"]) == ("black", "green")
    assert choices_of(Tea, FIELDS["milk"]) == ("none", "oat")
    assert choices_of(Tea, FIELDS["cups"]) == ()


def test_a_field_without_metadata_has_empty_info() -> None:
    assert info_of(FIELDS["name"]) == FieldInfo()
    assert info_of(FIELDS["kind"]).help == "Kind."


@pytest.mark.parametrize("values", [{}, {"cups": 1}, {"cups": 9}, {"heat": (1, 99)}, {"name": "x"}])
def test_values_within_the_bounds_are_accepted(values: dict[str, Any]) -> None:
    Tea(**values)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"cups": 0}, "cups is 0; expected at least 1 and at most 9"),
        ({"cups": 10}, "cups is 10; expected at least 1 and at most 9"),
        ({"heat": (0, 50)}, "heat is 0, 50; expected more than 0 and less than 100"),
        ({"heat": (50, 100)}, "heat is 50, 100; expected more than 0 and less than 100"),
    ],
)
def test_numbers_out_of_bounds_are_refused(values: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        Tea(**values)


@pytest.mark.parametrize("values", [{"kind": "white"}, {"milk": "soy"}])
def test_unknown_words_are_refused_with_the_known_ones(values: dict[str, Any]) -> None:
    with pytest.raises(UnknownNameError, match=r"Known: (black, green|none, oat)"):
        Tea(**values)
