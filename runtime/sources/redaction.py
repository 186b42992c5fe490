"""Addresses without their passwords."""

from __future__ import annotations

import re
from pathlib import Path

# Up to the last @, not the first: a password with an @ or a / in it that nobody escaped is one too.
# One slash is what a `Path` leaves of two.
_USER = re.compile(r"(\w:/{1,2}).*@", re.DOTALL)
_BARE = re.compile(r"[^\s/:@]+:[^\s/@]+@")  # where the scheme is missing or mistyped
# Cameras take them in the query, in the path (`/user=admin&password=secret`), and GStreamer's
# elements as properties, quoted where they hold a blank.
_SETTING = re.compile(
    r"""((?:pass|pwd|pw\b|secret|token|key|auth|user|usr|login)[\w-]*=)("[^"]*"|'[^']*'|[^&\s]*)""",
    re.IGNORECASE,
)


def redacted(source: str | Path) -> str:
    """A source's address as it may be printed: what tells who asks is `***`.

    That is all between `://` and the last `@`, and the values of `password=` and the like.
    """
    hidden = _BARE.sub("***@", _USER.sub(r"\1***@", str(source)))
    return _SETTING.sub(r"\1***", hidden)
