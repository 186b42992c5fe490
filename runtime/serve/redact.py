"""What a source is called where people see it."""

from __future__ import annotations

import re

# Up to the last @: passwords hold @ and / more often than cameras' paths do.
_USER = re.compile(r"://\S*@")
_SECRET = re.compile(r"(?i)([?&](?:user\w*|pass\w*|pwd|token|key|secret|auth)=)[^&\s]*")


def redacted(text: str) -> str:
    """The text without the user names and passwords of the URLs in it."""
    return _SECRET.sub(r"\1***", _USER.sub("://***@", text))
