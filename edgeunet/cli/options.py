"""Builds a command's options from the fields of a frozen dataclass, see `edgeunet.fields`."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Collection
from dataclasses import MISSING, Field, fields
from pathlib import Path
from typing import Any, TypeVar, get_args, get_origin

import click

from ..fields import FieldInfo, choices_of, info_of, type_of
from .common import DIRECTORY, SIZE, Choice, ListOf, option
from .completion import complete_model, complete_weights

F = TypeVar("F", bound=Callable[..., Any])
_METAVARS: dict[Any, str] = {int: "N", float: "NUMBER"}
_COMPLETIONS = {
    "model": complete_model,
    "weights": complete_weights,
    "initial": complete_weights,
}


def options_from(
    cls: type, parameter: str, *, section: str | None = None, leave_out: Collection[str] = ()
) -> Callable[[F], F]:
    """Give a command an option for each field of a dataclass that has a help text.

    Args:
        cls: the dataclass.
        parameter: the argument of the command that takes the instance.
        section: heading in the help, for fields without their own.
        leave_out: fields that the command does not offer; they keep their defaults.
    """
    offered = [
        field for field in fields(cls) if info_of(field).help and field.name not in leave_out
    ]

    assert offered, f"no field of {cls.__name__} has a help text"

    def decorate(command: F) -> F:
        @functools.wraps(command)
        def with_instance(**values: Any) -> Any:
            given = {field.name: values.pop(field.name) for field in offered}
            # An option that was not given is None: the dataclass knows its default.
            chosen = {name: value for name, value in given.items() if value is not None}
            return command(**{parameter: cls(**chosen)}, **values)

        for field in reversed(offered):
            _click_option(cls, field, section)(with_instance)
        return with_instance  # type: ignore[return-value]  # takes the fields instead

    return decorate


def _click_option(cls: type, field: Field[Any], section: str | None) -> Callable[[F], F]:
    """The option of one field."""
    known, hint, choices = info_of(field), type_of(cls, field), choices_of(cls, field)
    flag = known.flag or f"--{field.name.replace('_', '-')}"
    settings: dict[str, Any] = {"help": known.help, "required": field.default is MISSING}
    if not settings["required"]:
        settings["default"] = None if field.default == () else field.default
    if hint is bool:
        if field.default is not False:
            flag += f"/--no-{flag.removeprefix('--')}"
        settings["is_flag"] = True
    else:
        settings["metavar"] = known.metavar or _METAVARS.get(hint)
        settings["type"] = _click_type(hint, known, choices)
    settings["shell_complete"] = _COMPLETIONS.get(field.name)
    if choices and known.metavar:
        settings["help"] += f" One of: {', '.join(choices)}."
    if hint == tuple[float, float]:
        settings["nargs"] = 2
    if hint == tuple[int, int] and settings.get("default"):
        settings["default"] = "{}x{}".format(*settings["default"])
    return option(
        flag,
        field.name,
        show_default=known.shown_default or True,
        section=known.section or section,
        **settings,
    )


def _click_type(hint: Any, known: FieldInfo, choices: tuple[str, ...]) -> Any:
    """The parameter type of a field; (int, int) is a size, (height, width)."""
    if choices:
        return Choice(choices)
    if hint is Path:
        return DIRECTORY
    if hint == tuple[int, int]:
        return SIZE
    if hint == tuple[float, float]:
        return float
    if get_origin(hint) is tuple:
        return ListOf(get_args(hint)[0], known.metavar or "N[,N…]")
    limits: dict[str, Any] = {
        "min": known.ge if known.gt is None else known.gt,
        "max": known.le if known.lt is None else known.lt,
        "min_open": known.gt is not None,
        "max_open": known.lt is not None,
    }
    if limits["max"] == math.inf:  # `check` refuses infinity itself
        limits.update(max=None, max_open=False)
    if limits["min"] is None and limits["max"] is None:
        return hint
    return click.IntRange(**limits) if hint is int else click.FloatRange(**limits)
