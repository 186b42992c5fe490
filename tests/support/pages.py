"""What pages of the documentation hold: code blocks, commands, quoted messages."""

from __future__ import annotations

import ast
import re
import shlex
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from .commands import ROOT
from .project import FOLDERS, module_files

DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", *sorted(DOCS.rglob("*.md"))]

_FENCE = re.compile(r"^( *)```(\w*)\n(.*?)^\1```", re.MULTILINE | re.DOTALL)
_INLINE = re.compile(r"(?<!`)`(edgeunet [^`]+)`")
_COMMAND = re.compile(r"(?:^|[|&;(] *|\w=\S* )edgeunet ")
_JOINS = set("|&;()<>")


class Block(NamedTuple):
    """A fenced block: where it begins, its language and its text."""

    where: str
    language: str
    text: str


def blocks(page: Path) -> Iterator[Block]:
    """The fenced blocks of a page."""
    text = page.read_text(encoding="utf-8")
    for found in _FENCE.finditer(text):
        line = text.count("\n", 0, found.start()) + 1
        yield Block(f"{page.relative_to(ROOT)}:{line}", found[2], textwrap.dedent(found[3]))


def commands(text: str) -> Iterator[list[str]]:
    """The arguments of each call of edgeunet in shell code, behind pipes and in $( ) too."""
    for line in text.replace("\\\n", " ").splitlines():
        if not _COMMAND.search(line.lstrip()):
            continue
        lexer = shlex.shlex(line, posix=True, punctuation_chars=True)
        lexer.whitespace_split = True
        call: list[str] = []
        for word in [*lexer, ";"]:
            if set(word) <= _JOINS:
                if call[:1] == ["edgeunet"]:
                    yield call[1:]
                call = []
            elif call or not re.fullmatch(r"\w+=.*", word):  # variables in front
                call.append(word)


def inline_commands(page: Path) -> list[list[str]]:
    """The words of what stands in the running text as `edgeunet …`, which may be cut short."""
    text = _FENCE.sub("", page.read_text(encoding="utf-8"))
    return [found.split()[1:] for found in _INLINE.findall(text)]


def texts_of_the_product() -> set[str]:
    """All texts in its code; what an f-string fills in is …"""
    found = set()
    for path in (path for folder in FOLDERS for path in module_files(ROOT / folder)):
        for node in ast.walk(ast.parse(path.read_bytes())):
            if isinstance(node, ast.JoinedStr):
                parts = (
                    each.value if isinstance(each, ast.Constant) else "…" for each in node.values
                )
                found.add("".join(map(str, parts)))
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                found.add(node.value)
    return found
