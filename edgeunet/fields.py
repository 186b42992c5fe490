"""Fields of option dataclasses: default, allowed values and help text in one place.

`check` validates an instance with them; `edgeunet.cli.options` builds a command's options from
them. Nothing here imports click, so that the runtime can describe its options too.
"""

from __future__ import annotations

import operator
import sys
from dataclasses import Field, dataclass, fields
from types import SimpleNamespace
from typing import Any, Literal, get_args, get_origin, get_type_hints

from .errors import UsageError

_BOUNDS = {
    "ge": (operator.ge, "at least"),
    "gt": (operator.gt, "more than"),
    "le": (operator.le, "at most"),
    "lt": (operator.lt, "less than"),
}
_KEY = "edgeunet"


@dataclass(frozen=True, kw_only=True)
class Option:
    """What is known about a field besides its type and its default.

    help: help text; the command line offers the field only if it has one.
    ge, gt, le, lt: bounds of a number, or of each number of a tuple.
    flag: name on the command line, if it is not the field's own.
    metavar: how help calls the value.
    shown_default: how help names a default that is None.
    """

    help: str = ""
    ge: float | None = None
    gt: float | None = None
    le: float | None = None
    lt: float | None = None
    flag: str | None = None
    metavar: str | None = None
    shown_default: str | None = None


def option(
    help: str = "",  # noqa: A002
    **known: Any,
) -> dict[str, Option]:
    """Metadata of a dataclass field; `known` are the other attributes of `Option`."""
    return {_KEY: Option(help=help, **known)}


def option_of(field: Field[Any]) -> Option:
    """The field's `Option`; an empty one if it has none."""
    known: Option = field.metadata.get(_KEY, Option())
    return known


def type_of(cls: type, field: Field[Any]) -> Any:
    """The type of a field, resolved; `X | None` gives X."""
    # One field at a time: the others may name types that are imported for type checkers only.
    holder = SimpleNamespace(__annotations__={"field": field.type})
    hint = get_type_hints(holder, vars(sys.modules[cls.__module__]))["field"]
    if get_origin(hint) is not Literal and type(None) in get_args(hint):
        (hint,) = (each for each in get_args(hint) if each is not type(None))
    return hint


def choices_of(cls: type, field: Field[Any]) -> tuple[str, ...]:
    """Values that a field of a `Literal` type takes; () for any other type."""
    hint = type_of(cls, field)
    return get_args(hint) if get_origin(hint) is Literal else ()


def check(options: Any) -> None:
    """Check the fields that have an `Option`; a field that is None was not given.

    Raises:
        UsageError: a number outside its bounds, or a word that is not one of its choices.
    """
    for field in fields(options):
        value = getattr(options, field.name)
        if value is None or _KEY not in field.metadata:
            continue
        choices = choices_of(type(options), field)
        if choices and value not in choices:
            raise UsageError(f"{field.name} is {value!r}; expected one of: {', '.join(choices)}.")
        known = option_of(field)
        bounds = {name: limit for name in _BOUNDS if (limit := getattr(known, name)) is not None}
        numbers = value if isinstance(value, tuple) else (value,)
        if not all(
            _BOUNDS[name][0](each, limit) for each in numbers for name, limit in bounds.items()
        ):
            expected = " and ".join(f"{_BOUNDS[name][1]} {bounds[name]:g}" for name in bounds)
            shown = ", ".join(f"{each:g}" for each in numbers)
            raise UsageError(f"{field.name} is {shown}; expected {expected}.")
