"""Addresses without their passwords."""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import unquote

# Up to the last @, not the first: a password with an @ or a / in it that nobody escaped is one too.
# One slash is what a `Path` leaves of two.
_USER = re.compile(r"(\w:/{1,2}).*@", re.DOTALL)
_BARE = re.compile(r"[^\s/:@]*:(?!/)\S*@")  # where the scheme is missing or mistyped
# Cameras take them in the query, in the path (`/user=admin&password=secret`), and GStreamer's
# elements as properties, with blanks around the = or not, quoted or escaped where they hold one.
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
    """A source's address as it may be printed: what tells who asks is `***`.

    That is all between `://` and the last `@`, and the values of `password=` and the like.
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
    """Text without its percent signs, however often it was encoded."""
    while (plain := unquote(text)) != text:
        text = plain
    return text
