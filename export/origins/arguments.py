"""Arguments of nets that libraries build, from `--arch` and from configuration files."""

from __future__ import annotations

import ast
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

from edgeunet.errors import UnknownNameError, UsageError

Arguments = dict[str, Any]

_LONGEST = 1000  # characters of a value
_KEY = re.compile(r"\s*([A-Za-z_]\w*)\s*=(.*)", re.DOTALL)
_OPENING, _CLOSING = "([{", ")]}"
_PLAIN = (bool, int, float, str, type(None))


def arguments_of(arch: Sequence[str]) -> Arguments:
    """The arguments that `--arch` gives: KEY=VALUE with commas between them.

    A value is a Python number, bool, None, string, list, tuple or dict of these, or else a text.
    It may be a list without brackets. Nothing is evaluated.

    Raises:
        UsageError: a part without a key, a key that occurs twice, or a value that is too long.

    Example:
        >>> from edgeunet.exporting.origins.arguments import arguments_of
        >>> arguments_of(["encoder_name=resnet18", "channels=(8", "16)", "strides=2", "2"])
        {'encoder_name': 'resnet18', 'channels': (8, 16), 'strides': (2, 2)}
    """
    texts: dict[str, str] = {}
    key = ""
    for part in _parts(",".join(arch)):
        found = _KEY.fullmatch(part)
        if found is None:
            if not key:
                raise UsageError(f"--arch has {part!r}; expected KEY=VALUE,…, such as classes=3.")
            texts[key] += f",{part}"
            continue
        key, text = found.groups()
        if key in texts:
            raise UsageError(f"--arch has {key} twice. Pass it once.")
        texts[key] = text
    return {key: _value(key, text.strip()) for key, text in texts.items()}


def _parts(text: str) -> Iterator[str]:
    """What commas outside of brackets and quotes separate."""
    depth, quote, part = 0, "", ""
    for each in text:
        if quote:
            quote = "" if each == quote else quote
        elif each in "'\"":
            quote = each
        depth += 0 if quote else (each in _OPENING) - (each in _CLOSING)
        if each == "," and depth == 0 and not quote:
            yield part
            part = ""
        else:
            part += each
    if part.strip():
        yield part


def _value(key: str, text: str) -> Any:
    if len(text) > _LONGEST:
        raise UsageError(f"--arch has a {key} of {len(text)} characters; {_LONGEST} are possible.")
    try:
        value = ast.literal_eval(text)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return text
    return value if is_plain(value) else text


def is_plain(value: Any) -> bool:
    """Whether a value is made of numbers, texts, bools, None, and lists and dicts of these.

    Example:
        >>> from edgeunet.exporting.origins.arguments import is_plain
        >>> is_plain({"norm": ("batch", 1e-3)}), is_plain(b"batch")
        (True, False)
    """
    if isinstance(value, (list, tuple)):
        return all(map(is_plain, value))
    if isinstance(value, Mapping):
        return all(isinstance(key, str) and is_plain(each) for key, each in value.items())
    return isinstance(value, _PLAIN)


def check_arguments(title: str, given: Collection[str], known: Collection[str]) -> None:
    """Refuse arguments that a net does not have, or that would read files or download.

    Raises:
        UnknownNameError: names the first one.
    """
    for name in given:
        if name not in known:
            raise UnknownNameError(f"argument of {title}", name, known)
