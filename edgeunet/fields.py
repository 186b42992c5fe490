"""Fields of option dataclasses: default, allowed values and help text in one place.

`check` validates an instance with them; `edgeunet.cli.options` builds a command's options from
them. Nothing here imports click, so that the runtime can describe its options too.
"""

from __future__ import annotations

import operator
import sys
from collections.abc import Callable
from dataclasses import Field, dataclass, fields
from dataclasses import field as dataclass_field
from types import SimpleNamespace
from typing import Any, Literal, get_args, get_origin, get_type_hints

from .errors import UnknownNameError, UsageError

_KEY = "edgeunet"


@dataclass(frozen=True, kw_only=True)
class FieldInfo:
    """What is known about a field besides its type and its default.

    help: help text; the command line offers the field only if it has one.
    ge, gt, le, lt: bounds of a number, or of each number of a tuple.
    flag: name on the command line, if it is not the field's own.
    metavar: how help calls the value.
    shown_default: how help names a default that is None.
    choices: words that a text may be; those of a `Literal` type are known without.
    section: heading that help puts the option under.
    """

    help: str = ""
    ge: float | None = None
    gt: float | None = None
    le: float | None = None
    lt: float | None = None
    flag: str | None = None
    metavar: str | None = None
    shown_default: str | None = None
    choices: tuple[str, ...] = ()
    section: str | None = None

    def bounds(self) -> list[tuple[Callable[[float, float], bool], str, float]]:
        """(comparison with the limit, its words, limit) of each bound that is set."""
        known = (
            (operator.ge, "at least", self.ge),
            (operator.gt, "more than", self.gt),
            (operator.le, "at most", self.le),
            (operator.lt, "less than", self.lt),
        )
        return [(holds, words, limit) for holds, words, limit in known if limit is not None]


def describe(help: str = "", **known: Any) -> dict[str, FieldInfo]:  # noqa: A002
    """Metadata of a dataclass field: its `FieldInfo`.

    Example:
        >>> from dataclasses import field
        >>> from edgeunet.fields import describe
        >>> field(default=8, metadata=describe("Largest batch.", ge=1)).default
        8
    """
    return {_KEY: FieldInfo(help=help, **known)}


def described(default: Any, help: str, **known: Any) -> Any:  # noqa: A002
    """A dataclass field with this default and `FieldInfo`.

    Example:
        >>> from edgeunet.fields import described
        >>> described(8, "Largest batch.", ge=1).default
        8
    """
    return dataclass_field(default=default, metadata=describe(help, **known))


def info_of(field: Field[Any]) -> FieldInfo:
    """The field's `FieldInfo`; an empty one if it has none."""
    known: FieldInfo = field.metadata.get(_KEY, FieldInfo())
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
    """Words that a field may be; () if it is not one of a few words."""
    hint = type_of(cls, field)
    return get_args(hint) if get_origin(hint) is Literal else info_of(field).choices


def check(options: Any) -> None:
    """Check the fields that have a `FieldInfo`; a field that is None was not given.

    Raises:
        UsageError: a number outside its bounds. UnknownNameError: a word that is not a choice.
    """
    for field in fields(options):
        value = getattr(options, field.name)
        if value is None or _KEY not in field.metadata:
            continue
        choices = choices_of(type(options), field)
        if choices and value not in choices:
            raise UnknownNameError(field.name, value, choices)
        bounds = info_of(field).bounds()
        numbers = value if isinstance(value, tuple) else (value,)
        if not all(holds(number, limit) for number in numbers for holds, _, limit in bounds):
            expected = " and ".join(f"{words} {limit:g}" for _, words, limit in bounds)
            shown = ", ".join(f"{number:g}" for number in numbers)
            raise UsageError(f"{field.name} is {shown}; expected {expected}.")
