"""Reads JSON and YAML of unknown origin; strict decoding of JSON into frozen dataclasses.

It knows what the project's own files need: nested dataclasses, tuples, dicts with string keys,
Literals, optional values and scalars. An error names the path of the value that does not fit.
"""

from __future__ import annotations

import dataclasses
import importlib
import json
import re
import types
import typing
from pathlib import Path
from typing import Any, TypeVar

from ..errors import MissingDependencyError
from ..files import read_file

T = TypeVar("T")

MAX_BYTES = 4 << 20
MAX_DEPTH = 20
"""The most lists and objects inside each other."""
MAX_YAML_BYTES = 1 << 20
"""YAML takes a hundred times as long to read as JSON."""
_MAX_DIGITS = 100
_OPENING = ("[", "{", "<block mapping start>", "<block sequence start>")
_CLOSING = ("]", "}", "<block end>")
_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")
_SHOWN = 80  # characters of a value that an error quotes


class SchemaError(ValueError):
    """JSON that does not have the documented form."""


def load_json(path: Path, *, most: int = MAX_BYTES) -> Any:
    """Read a JSON file whose author is not known; time and memory are bounded.

    Raises:
        FileNotFoundError: no such file.
        SchemaError: no regular file, more than `most` bytes, not JSON, nested too deeply, an
            integer of too many digits, or half of a surrogate pair, which UTF-8 cannot hold. The
            message continues a sentence that begins with the file's name.
    """
    try:
        text = read_file(path, most=most).decode("utf-8-sig")  # some editors write a mark
        data = json.loads(text, parse_int=_integer)
        _check_depth(data)
        if _SURROGATE.search(text):
            json.dumps(data, ensure_ascii=False).encode()  # raises if one is alone
    except FileNotFoundError:
        raise
    except RecursionError:
        raise SchemaError("cannot be read as JSON: it is nested too deeply") from None
    except (OSError, ValueError) as error:
        raise SchemaError(f"cannot be read as JSON: {error}") from None
    return data


def load_yaml(path: Path) -> Any:
    """Read a YAML file of plain values whose author is not known; time and memory are bounded.

    YAML 1.1: numbers such as `1e-3`, without a point, are texts.

    Raises:
        FileNotFoundError: no such file. MissingDependencyError: PyYAML is not installed.
        SchemaError: as of `load_json`, or an alias, by which few bytes may become many values.
    """
    try:
        yaml = importlib.import_module("yaml")
    except ImportError:
        raise MissingDependencyError("yaml") from None
    try:
        content = read_file(path, most=MAX_YAML_BYTES)
        depth = 0
        for token in yaml.scan(content):
            if isinstance(token, yaml.AliasToken):
                raise SchemaError("has an alias (*name); expected plain values")
            depth += token.id in _OPENING
            depth -= token.id in _CLOSING
            if depth > MAX_DEPTH:  # the time to read it grows with the square of the depth
                raise SchemaError(f"is nested more than {MAX_DEPTH} deep")
        return yaml.safe_load(content)
    except (FileNotFoundError, SchemaError):
        raise
    except RecursionError:
        raise SchemaError("is nested too deeply") from None
    except (OSError, ValueError, yaml.YAMLError) as error:
        text = " ".join(str(error).split())
        raise SchemaError(f"cannot be read as YAML: {text}") from None


def _integer(text: str) -> int:
    if len(text) > _MAX_DIGITS:  # the time to convert them grows with the square
        raise ValueError(f"an integer has {len(text)} digits; expected at most {_MAX_DIGITS}")
    return int(text)


def _check_depth(data: object) -> None:
    nested: list[Any] = [data] if isinstance(data, (dict, list)) else []
    for _ in range(MAX_DEPTH):
        if not nested:
            return
        nested = [
            inner
            for each in nested
            for inner in (each.values() if isinstance(each, dict) else each)
            if isinstance(inner, (dict, list))
        ]
    raise ValueError(f"it is nested more than {MAX_DEPTH} deep")


def _quoted(value: object) -> str:
    """`repr` of a value, cut if it is long."""
    text = repr(value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"


def decode(cls: type[T], data: object, *, where: str = "$") -> T:
    """Build the dataclass `cls` from data that `json.loads` returned.

    Raises:
        SchemaError: a missing or unknown key, or a value of another type.
    """
    if not isinstance(data, dict):
        raise SchemaError(f"{where}: expected an object, got {type(data).__name__}")
    fields = {field.name: field for field in dataclasses.fields(cls)}  # type: ignore[arg-type]
    unknown = sorted(set(data) - set(fields))
    if unknown:
        raise SchemaError(f"{where} has unknown key {_quoted(unknown[0])}")
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
    """Build the dataclass `cls` from a JSON file whose `key` holds the schema version.

    Raises:
        FileNotFoundError: no such file.
        SchemaError: unreadable, not JSON, of another version, or it does not fit the schema. The
            message continues a sentence that begins with the file's name.
    """
    data = load_json(path)
    found = data.get(key) if isinstance(data, dict) else None
    if found != version:
        name = key.replace("_", " ")
        raise SchemaError(f"has {name} {_quoted(found)}; this edgeunet reads {version}")
    try:
        return decode(cls, data)
    except SchemaError as error:
        raise SchemaError(f"is damaged: {error}") from None


def encode(value: Any) -> Any:
    """JSON-ready form of a dataclass, a schema version first; `decode` reads it back."""
    data = dataclasses.asdict(value)
    version = {key: data.pop(key) for key in ("schema_version",) if key in data}
    return {**version, **data}


def _value(hint: Any, value: object, where: str) -> Any:
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if hint is Any:
        return value
    if origin in (typing.Union, types.UnionType):
        inner = [argument for argument in arguments if argument is not type(None)]
        return None if value is None else _value(inner[0], value, where)
    if origin is typing.Literal:
        if value not in arguments:
            raise SchemaError(
                f"{where}: expected one of {', '.join(arguments)}, got {_quoted(value)}"
            )
        return value
    if origin is tuple:
        return _tuple(arguments, value, where)
    if origin is dict:
        if not isinstance(value, dict) or not all(isinstance(key, str) for key in value):
            raise SchemaError(f"{where}: expected an object, got {type(value).__name__}")
        return {
            key: _value(arguments[1], item, f"{where}.{key[:_SHOWN]}")
            for key, item in value.items()
        }
    if dataclasses.is_dataclass(hint):
        return decode(typing.cast(type, hint), value, where=where)
    return _scalar(hint, value, where)


def _tuple(arguments: tuple[Any, ...], value: object, where: str) -> tuple[Any, ...]:
    if not isinstance(value, (list, tuple)):
        raise SchemaError(f"{where}: expected a list, got {type(value).__name__}")
    if arguments[-1] is Ellipsis:
        arguments = (arguments[0],) * len(value)
    if len(arguments) != len(value):
        raise SchemaError(f"{where}: expected {len(arguments)} entries, got {len(value)}")
    return tuple(
        _value(argument, item, f"{where}[{index}]")
        for index, (argument, item) in enumerate(zip(arguments, value, strict=True))
    )


def _scalar(hint: type, value: object, where: str) -> Any:
    # To Python, but not in JSON, a bool is an int.
    fits = isinstance(value, hint) and (hint is bool or not isinstance(value, bool))
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        try:
            return float(value)
        except OverflowError:
            raise SchemaError(f"{where}: the integer is too large for a float") from None
    if not fits:
        raise SchemaError(f"{where}: expected {hint.__name__}, got {_quoted(value)}")
    return value
