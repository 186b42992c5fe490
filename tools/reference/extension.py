"""Docstrings of this project in the form that mkdocstrings lays out: an extension of griffe.

`Example:` is a section, each error under `Raises:` and each name under `Args:` is an entry, and
what a class says of its fields becomes a table with their defaults.
"""

from __future__ import annotations

import ast
import re
import sys
from pathlib import Path
from typing import Any

import griffe

sys.path.insert(0, str(Path(__file__).parents[1]))

from reference.docstrings import fields_in

_HEADING = re.compile(r"^(Args|Attributes|Raises|Returns|Yields|Examples?):$", re.MULTILINE)
_ERRORS = re.compile(r"((?:[A-Z]\w*Error)(?:, [A-Z]\w*Error)*): ")


class Docstrings(griffe.Extension):
    """Rewrites docstrings as they are read."""

    def on_function(self, *, func: griffe.Function, **_: Any) -> None:
        """Arguments, errors and examples."""
        if func.docstring is not None:
            func.docstring.value = _sections(func, func.docstring.value)

    def on_class(self, *, cls: griffe.Class, **_: Any) -> None:
        """The same, and the fields of dataclasses."""
        if cls.docstring is not None:
            cls.docstring.value = _sections(cls, _with_fields(cls, cls.docstring.value))


def _sections(of: griffe.Function | griffe.Class, text: str) -> str:
    """A docstring with the headings and entries that griffe knows."""
    before, *parts = _HEADING.split(text)
    for heading, body in zip(parts[::2], parts[1::2], strict=True):
        if heading == "Raises":
            _, *errors = _ERRORS.split(" ".join(body.split()))
            entries = [
                f"    {name}: {said.strip()}"
                for together, said in zip(errors[::2], errors[1::2], strict=True)
                for name in together.split(", ")
            ]
            body = "\n" + "\n".join(entries) + "\n\n"
        elif heading == "Args":
            names = [each.name for each in of.parameters if each.name != "self"]
            _, said = fields_in(" ".join(body.split()), names)
            entries = [f"    {name}: {text}" for name, text in said.items()]
            body = "\n" + "\n".join(entries) + "\n\n"
        before += f"{'Examples' if heading == 'Example' else heading}:{body}"
    return before.rstrip()


def _with_fields(cls: griffe.Class, text: str) -> str:
    """A class's docstring with a section for the fields that it, or their help texts, describe."""
    fields = {name: each for name, each in cls.attributes.items() if each.annotation is not None}
    if "Attributes:" in text or not fields:
        return text
    first = _HEADING.search(text)
    end = len(text) if first is None else first.start()
    summary, said = fields_in(text[:end].rstrip(), list(fields))
    entries = []
    for name, field in fields.items():
        default, help_text = _default_and_help(cls, field.value)
        meaning = f"{help_text} {said.get(name, '')}".strip()
        if meaning and not name.startswith("_"):
            entries.append(
                f"    {name}: {meaning}" + (f" Default: `{default}`." if default else "")
            )
    section = "Attributes:\n" + "\n".join(entries) if entries else ""
    return "\n\n".join(filter(None, [summary, section, text[end:]]))


def _default_and_help(cls: griffe.Class, value: Any) -> tuple[str, str]:
    """Default of a field as code, and its help text, from `field(…)`, `described(…)` or a value."""
    call = None if value is None else ast.parse(str(value), mode="eval").body
    name = call.func.id if isinstance(call, ast.Call) and isinstance(call.func, ast.Name) else ""
    if not isinstance(call, ast.Call) or name not in ("described", "field"):
        return "" if value is None else str(value), ""
    if name == "described":
        return ast.unparse(call.args[0]), _text(cls, call.args[1])
    given = {keyword.arg: keyword.value for keyword in call.keywords}
    default = ast.unparse(given["default"]) if "default" in given else ""
    metadata = given.get("metadata")
    return default, _text(cls, metadata.args[0]) if isinstance(metadata, ast.Call) else ""


def _text(cls: griffe.Class, node: ast.expr) -> str:
    """A text that is written there, or is a constant of the module or of one that it imports."""
    if isinstance(node, ast.Name):
        node = ast.parse(str(cls.module[node.id].value), mode="eval").body
    return str(ast.literal_eval(node))
