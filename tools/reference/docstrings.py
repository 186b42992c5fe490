"""Reads what docstrings say of fields: `name, other: text. third: text.`, wherever it stands."""

from __future__ import annotations

import re
from collections.abc import Collection


def fields_in(text: str, names: Collection[str]) -> tuple[str, dict[str, str]]:
    r"""A docstring without what it says of these fields, and that by field.

    A description ends with the next one, or with its paragraph.

    Example:
        >>> fields_in("A net.\n\nwidth: pixels. depth: stages.", ["width", "depth"])
        ('A net.', {'width': 'Pixels.', 'depth': 'Stages.'})
    """
    known = "|".join(map(re.escape, names)) or r"(?!)"
    begin = re.compile(rf"(?:^|(?<=[.;] ))((?:{known})(?:, (?:{known}))*): ")
    rest, found = [], {}
    for paragraph in text.split("\n\n"):
        line = " ".join(paragraph.split())
        before, *parts = begin.split(line)
        if not parts:
            rest.append(paragraph)
            continue
        if before.strip():
            rest.append(before.strip())
        for together, said in zip(parts[::2], parts[1::2], strict=True):
            said = said.strip().removesuffix(";")
            for name in together.split(", "):
                found[name] = said[:1].upper() + said[1:]
    return "\n\n".join(rest), found
