"""Addresses without their passwords."""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import unquote

# Up to the last @, not the first: a password may hold an unescaped @ or /. A `Path` turns two
# slashes into one.
_USER = re.compile(r"(\w:/{1,2}).*@", re.DOTALL)
_BARE = re.compile(r"[^\s/:@]*:(?!/)\S*@")  # if the scheme is missing or mistyped
# Cameras take passwords in the query or the path (`/user=admin&password=secret`). GStreamer's
# elements take them as properties, with or without blanks around the =; values that hold blanks are
# quoted or escaped.
_KEY = re.compile(r"(?<![\w%.\[\]+-])([\w%.\[\]+-]+)\s*=\s*")
_VALUE = re.compile(
    r""""(?:\\.|[^"\\])*["\\]?|'(?:\\.|[^'\\])*['\\]?|(?:\\.|[^&\s\\])*\\?""", re.DOTALL
)
_SECRET = re.compile(
    r"pass|pwd|psw|pw(?![a-z])|psk|secret|token|key|auth|cred|session|signature|jwt"
    r"|(?<![a-z])s(?:ig|id)(?![a-z])|user|usr|login",
    re.IGNORECASE,
)


def redacted(source: str | Path) -> str:
    """A source's address for printing, with `***` instead of user and password.

    It replaces everything between `://` and the last `@`, and values such as that of `password=`.
    """
    hidden = _BARE.sub("***@", _USER.sub(r"\1***@", str(source)))
    parts, done = [], 0
    for key in _KEY.finditer(hidden):
        if key.start() < done or not _SECRET.search(_decoded(key[1])):  # done: within a value
            continue
        value = _VALUE.match(hidden, key.end())
        parts += [hidden[done : key.end()], "***"]
        done = value.end() if value else key.end()
    return "".join([*parts, hidden[done:]])


def _decoded(text: str) -> str:
    """Text without percent encoding, even if it was encoded several times."""
    while (plain := unquote(text)) != text:
        text = plain
    return text
