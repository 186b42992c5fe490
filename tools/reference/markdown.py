"""Plain text of the code as Markdown."""

from __future__ import annotations

import re
from pathlib import Path

DOCS = Path(__file__).parents[2] / "docs"

# What would be markup. A pipe would end the cell of a table.
_MARKUP = re.compile(r"([\\*<>{}|]|(?<!\w)_|_(?!\w))")
_OPTION = re.compile(r"(?<![\w-])--[a-z][\w-]*")


def prose(text: str) -> str:
    r"""A text whose characters all stay as they are; options and what backticks enclose are code.

    Example:
        >>> prose("Pass --size HxW, such as *.tif in `a*`.")
        'Pass `--size` HxW, such as \\*.tif in `a*`.'
    """
    parts = re.split(r"(`[^`]+`)", text)
    return "".join(part if part.startswith("`") else _escaped(part) for part in parts)


def _escaped(text: str) -> str:
    found, end = [], 0
    for option in _OPTION.finditer(text):
        found += [_MARKUP.sub(r"\\\1", text[end : option.start()]), f"`{option[0]}`"]
        end = option.end()
    return "".join([*found, _MARKUP.sub(r"\\\1", text[end:])])


def heading_of(page: str) -> str:
    """The title of a page of docs/ that people write."""
    first, _, _ = (DOCS / f"{page}.md").read_text(encoding="utf-8").partition("\n")
    return first.removeprefix("# ")
