"""Strict decoding of JSON into frozen dataclasses.

Only what the project's own files need: nested dataclasses, tuples, string-keyed dicts, Literals,
optional values and scalars. What does not fit is refused with the path to it.
"""

from __future__ import annotations

import dataclasses
import json
import types
import typing
from pathlib import Path
from typing import Any, TypeVar

T = TypeVar("T")


class SchemaError(ValueError):
    """JSON that does not have the documented form."""


def decode(cls: type[T], data: object, *, where: str = "$") -> T:
    """Build the dataclass `cls` from what `json.loads` returned.

    Raises:
        SchemaError: a missing or unknown key, or a value of another type; names the path.
    """
    if not isinstance(data, dict):
        raise SchemaError(f"{where} is {type(data).__name__}; an object was wanted")
    fields = {field.name: field for field in dataclasses.fields(cls)}  # type: ignore[arg-type]
    unknown = sorted(set(data) - set(fields))
    if unknown:
        raise SchemaError(f"{where} has unknown key {unknown[0]!r}")
    hints = typing.get_type_hints(cls)
    values: dict[str, Any] = {}
    for name, field in fields.items():
        if name in data:
            values[name] = _value(hints[name], data[name], f"{where}.{name}")
        elif field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING:
            raise SchemaError(f"{where} lacks {name!r}")
    try:
        return cls(**values)
    except ValueError as error:
        raise SchemaError(f"{where}: {error}") from None


def read(cls: type[T], path: Path, *, version: int, key: str = "schema_version") -> T:
    """Build the dataclass `cls` from a JSON file that says in `key` which version it has.

    Raises:
        FileNotFoundError: no such file. SchemaError: it is unreadable, not JSON, of another version
            or not in the schema; the message goes on from the file's name.
    """
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise
    except (OSError, ValueError) as error:
        raise SchemaError(f"cannot be read as JSON: {error}") from None
    found = data.get(key) if isinstance(data, dict) else None
    if found != version:
        name = key.replace("_", " ")
        raise SchemaError(f"has {name} {found!r}; this edgeunet reads {version}")
    try:
        return decode(cls, data)
    except SchemaError as error:
        raise SchemaError(f"is damaged: {error}") from None


def encode(value: Any) -> Any:
    """JSON-ready form of a dataclass that `decode` reads back."""
    return dataclasses.asdict(value)


def _value(hint: Any, value: object, where: str) -> Any:
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if hint is Any:
        return value
    if origin in (typing.Union, types.UnionType):
        inner = [argument for argument in arguments if argument is not type(None)]
        return None if value is None else _value(inner[0], value, where)
    if origin is typing.Literal:
        if value not in arguments:
            raise SchemaError(f"{where} is {value!r}; one of {', '.join(arguments)} was wanted")
        return value
    if origin is tuple:
        return _tuple(arguments, value, where)
    if origin is dict:
        if not isinstance(value, dict) or not all(isinstance(key, str) for key in value):
            raise SchemaError(f"{where} is {type(value).__name__}; an object was wanted")
        return {key: _value(arguments[1], item, f"{where}.{key}") for key, item in value.items()}
    if dataclasses.is_dataclass(hint):
        return decode(typing.cast(type, hint), value, where=where)
    return _scalar(hint, value, where)


def _tuple(arguments: tuple[Any, ...], value: object, where: str) -> tuple[Any, ...]:
    if not isinstance(value, (list, tuple)):
        raise SchemaError(f"{where} is {type(value).__name__}; a list was wanted")
    if arguments[-1] is Ellipsis:
        arguments = (arguments[0],) * len(value)
    if len(arguments) != len(value):
        raise SchemaError(f"{where} has {len(value)} entries; {len(arguments)} were wanted")
    return tuple(
        _value(argument, item, f"{where}[{index}]")
        for index, (argument, item) in enumerate(zip(arguments, value, strict=True))
    )


def _scalar(hint: type, value: object, where: str) -> Any:
    # bool is an int to Python, but not to a reader of JSON.
    fits = isinstance(value, hint) and (hint is bool or not isinstance(value, bool))
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        try:
            return float(value)
        except OverflowError:
            raise SchemaError(f"{where} is an integer too large for a float") from None
    if not fits:
        raise SchemaError(f"{where} is {value!r}; {hint.__name__} was wanted")
    return value
