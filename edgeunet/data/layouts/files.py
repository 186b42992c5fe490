"""Reads the text files of data sets, whose authors are not known: bounded, and never executed.

No name in a file leads out of the data set's folder, and no link is followed out of it.
"""

from __future__ import annotations

import csv
import os
import posixpath
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any
from xml.parsers import expat

from ...bundle.schema import MAX_DEPTH, SchemaError, load_json, load_yaml
from ...errors import DatasetError, printable
from ...files import read_file
from ...listing import natural_key

MOST_BYTES = 512 << 20
"""Of an annotation file: COCO's own of 118 000 images has 470 MB."""

_LONGEST = 255  # characters of a file's name


def read_json(path: Path) -> Any:
    """Content of a JSON file; DatasetError if there is none, or none that can be read."""
    try:
        return load_json(path, most=MOST_BYTES)
    except FileNotFoundError:
        raise DatasetError(f"{printable(path)} does not exist.") from None
    except SchemaError as error:
        raise DatasetError(f"{printable(path)} {error}") from None


@dataclass
class Node:
    """An element of an XML file."""

    tag: str
    attributes: dict[str, str]
    children: list[Node] = field(default_factory=list)
    text: str = ""

    def find(self, *tags: str) -> list[Node]:
        """The elements below, by the tags of the way there."""
        found = [self]
        for tag in tags:
            found = [child for each in found for child in each.children if child.tag == tag]
        return found

    def text_of(self, tag: str) -> str:
        """Text of the first child of that tag, or empty."""
        return next((child.text.strip() for child in self.find(tag)), "")


def read_xml(path: Path) -> Node:
    """Root element of an XML file without a document type.

    Raises:
        DatasetError: no XML, nested too deeply, or with a document type: that is where entities are
            declared, which read other files or grow without bound.

    Example:
        >>> from pathlib import Path; from edgeunet.data.layouts.files import read_xml
        >>> _ = Path("a.xml").write_text('<labels><label name="car"/></labels>')
        >>> read_xml(Path("a.xml")).find("label")[0].attributes
        {'name': 'car'}
    """
    top = Node("", {})
    open_nodes = [top]

    def start(tag: str, attributes: dict[str, str]) -> None:
        if len(open_nodes) > MAX_DEPTH:
            raise DatasetError(f"{printable(path)} is nested more than {MAX_DEPTH} deep.")
        open_nodes[-1].children.append(Node(tag, attributes))
        open_nodes.append(open_nodes[-1].children[-1])

    def text(content: str) -> None:
        open_nodes[-1].text += content

    def refuse(*_: object) -> None:
        raise DatasetError(
            f"{printable(path)} has a document type, by which XML may read other files; expected "
            "none. Remove <!DOCTYPE ...>."
        )

    parser = expat.ParserCreate()
    parser.buffer_text = True
    parser.StartElementHandler = start
    parser.EndElementHandler = lambda tag: open_nodes.pop()
    parser.CharacterDataHandler = text
    parser.StartDoctypeDeclHandler = refuse
    try:
        parser.Parse(_content(path, MOST_BYTES), True)
    except expat.ExpatError as error:
        raise DatasetError(f"{printable(path)} cannot be read as XML: {error}.") from None
    return top.children[0]


def read_yaml(path: Path) -> Any:
    """Content of a YAML file of plain values; DatasetError as of `read_json`, or for aliases."""
    try:
        return load_yaml(path)
    except FileNotFoundError:
        raise DatasetError(f"{printable(path)} does not exist.") from None
    except SchemaError as error:
        raise DatasetError(f"{printable(path)} {error}.") from None


def read_lines(path: Path) -> list[str]:
    """Lines of a text file that are not empty, without spaces around them."""
    try:
        text = _content(path, MOST_BYTES).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DatasetError(f"{printable(path)} is no text in UTF-8: {error}.") from None
    return [line for line in map(str.strip, text.splitlines()) if line]


def read_table(path: Path) -> list[list[str]]:
    """Cells of a file of comma-separated values, without the first line, the heading."""
    return [[cell.strip() for cell in row] for row in csv.reader(read_lines(path))][1:]


def _content(path: Path, most: int) -> bytes:
    try:
        return read_file(path, most=most)
    except OSError as error:
        raise DatasetError(
            f"{printable(path)} cannot be read: {error.strerror or error}."
        ) from None


def within(root: Path, name: str, *, told_by: Path) -> Path:
    """The path below `root` that a file names.

    Raises:
        DatasetError: an absolute path, one that `..` or a link leads out of the folder.

    Example:
        >>> from pathlib import Path; from edgeunet.data.layouts.files import within
        >>> within(Path("set"), "train/../val/a.png", told_by=Path("set/list.txt")).as_posix()
        'set/val/a.png'
    """
    plain = posixpath.normpath(name.replace("\\", "/"))
    outside = plain.startswith(("/", "..")) or re.match("[A-Za-z]:", plain)
    if outside or "\0" in name or max(map(len, plain.split("/"))) > _LONGEST:
        raise DatasetError(
            f"{printable(told_by)} names {printable(name)!r}; expected a path inside "
            f"{printable(root)}. Write it relative to that folder."
        )
    path = root / plain
    check_link(root, path)
    return path


def check_link(root: Path, path: Path) -> None:
    """DatasetError if a link leads from a path below `root` out of it."""
    inside = _is_inside(root, path) if path.is_symlink() else _holds(root, path.parent)
    if not inside:
        raise DatasetError(
            f"{printable(path)} is a link out of the data set {printable(root)}. Copy what it "
            "names, or pass the folder that holds both."
        )


def _is_inside(root: Path, path: Path) -> bool:
    try:
        return path.resolve().is_relative_to(root.resolve())
    except (OSError, RuntimeError, ValueError):  # a circle of links, or no text
        return False


_holds = lru_cache(maxsize=1024)(_is_inside)  # folders hold many files


def files_below(root: Path, folder: Path | None = None) -> Iterator[Path]:
    """Files of a folder and those inside it, in natural order; names with a dot in front are not.

    Raises:
        DatasetError: a link out of the data set.
    """
    for where, folders, names in os.walk(folder or root):
        folders.sort(key=natural_key)
        for name in folders:
            if (path := Path(where, name)).is_symlink():  # which `os.walk` does not enter
                check_link(root, path)
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in sorted(names, key=natural_key):
            if not name.startswith("."):
                path = Path(where, name)
                if path.is_symlink():
                    check_link(root, path)
                yield path
