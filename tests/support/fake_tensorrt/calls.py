"""Calls checked against the signatures that pybind11 writes into docstrings."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np

_NAMESPACES = re.compile(r"\b(nvinfer1::|nvonnxparser::|v_\d_\d::|typing\w*\.|collections\.abc\.)")
_OF_INTEGERS = re.compile(r"(List|list|Sequence)\[(int|SupportsInt)\]")


@dataclass(frozen=True)
class _Parameter:
    name: str
    kind: str
    default: str


@dataclass(frozen=True)
class Signature:
    """One way to call a function, without `self`."""

    parameters: tuple[_Parameter, ...]

    def bind(
        self, kinds: Mapping[str, type], args: Sequence[Any], kwargs: Mapping[str, Any]
    ) -> dict[str, Any] | None:
        """Arguments by name, or None where they do not fit; `kinds` are the module's types."""
        if len(args) > len(self.parameters):
            return None
        named = dict(zip((parameter.name for parameter in self.parameters), args, strict=False))
        if named.keys() & kwargs.keys():
            return None
        named |= kwargs
        kinds_of = {parameter.name: parameter.kind for parameter in self.parameters}
        if any(
            not parameter.default and parameter.name not in named for parameter in self.parameters
        ):
            return None
        may_be_none = {each.name for each in self.parameters if each.default == "None"}
        fits = all(
            name in kinds_of
            and (accepts(kinds_of[name], value, kinds) or (value is None and name in may_be_none))
            for name, value in named.items()
        )
        return named if fits else None


@cache
def parse(text: str) -> Signature:
    """Read "(name: type = default, ...) -> type"."""
    inside = text[1 : text.rindex(") -> ")]
    parts = [part for part in _split(inside) if part not in ("", "/", "*")]
    return Signature(tuple(_parameter(part) for part in parts))


def accepts(kind: str, value: Any, kinds: Mapping[str, type]) -> bool:
    """Whether pybind11 takes a value for an argument of that recorded type."""
    plain = kind.replace("IParserError", "ParserError")
    if plain in _CHECKS:
        return _CHECKS[plain](value)
    if _OF_INTEGERS.fullmatch(plain):
        return _is_sequence(value) and all(_is_integer(item) for item in value)
    if plain not in kinds:
        return True  # nothing is known of it
    wanted = kinds[plain]
    if plain == "Dims":
        listed = isinstance(value, (tuple, list)) and all(_is_integer(item) for item in value)
        return listed or isinstance(value, wanted)
    return isinstance(value, wanted)


def _is_integer(value: Any) -> bool:
    return hasattr(value, "__index__")


def _is_number(value: Any) -> bool:
    return hasattr(value, "__float__") or hasattr(value, "__index__")


def _is_sequence(value: Any) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, (str, bytes))


def _is_buffer(value: Any) -> bool:
    try:
        memoryview(value)
    except TypeError:
        return False
    return True


_CHECKS: dict[str, Callable[[Any], bool]] = {
    "int": _is_integer,
    "SupportsInt": _is_integer,
    "float": _is_number,
    "SupportsFloat": _is_number,
    "str": lambda value: isinstance(value, (str, bytes)),
    "bool": lambda value: isinstance(value, (bool, np.bool_)),
    "tuple": lambda value: isinstance(value, tuple),
    "list": lambda value: isinstance(value, list),
    "buffer": _is_buffer,
    "Buffer": _is_buffer,
}


def _parameter(text: str) -> _Parameter:
    name, _, rest = text.partition(": ")
    kind, _, default = rest.partition(" = ")
    return _Parameter(name, plain_type(kind), default)


def plain_type(kind: str) -> str:
    """A recorded type without the namespaces that its name came with."""
    return _NAMESPACES.sub("", kind)


def _split(text: str) -> Iterator[str]:
    """Parts between the commas that stand in no brackets."""
    depth, start = 0, 0
    for index, character in enumerate(text):
        depth += (character in "[(<") - (character in "])>")
        if character == "," and depth == 0:
            yield text[start:index].strip()
            start = index + 1
    yield text[start:].strip()
