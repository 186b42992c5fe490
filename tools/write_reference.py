"""Writes the pages of docs/reference that follow from the code: `make reference`.

A test compares the pages that are committed with what this writes.
"""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]  # the rules' examples are the tests' graphs

from reference import command_line, rules, schema  # noqa: E402

DOCS = ROOT / "docs"
FOLDERS = (command_line.FOLDER, rules.FOLDER)
"""Everything in them is written here, or listed in `BY_HAND`."""
BY_HAND = ("reference/lint/compilers.md",)


def pages() -> dict[str, str]:
    """Path inside docs/ -> content."""
    return {**command_line.pages(), **rules.pages(), **schema.pages()}


def written() -> set[str]:
    """Pages of the folders that are on disk, apart from those that people write."""
    found = [path for folder in FOLDERS for path in (DOCS / folder).glob("**/*.md")]
    return {path.relative_to(DOCS).as_posix() for path in found} - set(BY_HAND)


def main() -> None:
    """Write all pages, and remove those of commands and rules that are gone."""
    wanted = pages()
    for name in written() - set(wanted):
        (DOCS / name).unlink()
    for name, content in wanted.items():
        path = DOCS / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content, encoding="utf-8")


if __name__ == "__main__":
    main()
