"""Lists the images of a folder, in the order in which people count."""

from __future__ import annotations

import os
import re
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any

from .errors import printable

IMAGE_SUFFIXES = frozenset(
    {".avif", ".bmp", ".dib", ".gif", ".j2k", ".jfif", ".jp2", ".jpe", ".jpeg", ".jpg"}
    | {".pbm", ".pgm", ".png", ".pnm", ".ppm", ".tif", ".tiff", ".webp"}
)
"""Suffixes, in lower case, of files that are read as images."""

MASK_FOLDERS = frozenset(
    {"annotations", "instances", "label", "labels", "mask", "masks", "segmentation"}
)
"""Names, in lower case, of folders whose images are no frames."""


def natural_key(path: str | PurePath) -> tuple[Any, ...]:
    """Key to sort paths by, as people count: frame_2 before frame_10.

    Example:
        >>> from edgeunet.listing import natural_key
        >>> sorted(["f10.png", "f2.png", "f1.png"], key=natural_key)
        ['f1.png', 'f2.png', 'f10.png']
    """
    parts = tuple(_natural_part(part) for part in PurePath(path).parts)
    return parts, str(path)  # the second tells 1.png from 01.png


def _natural_part(name: str) -> tuple[Any, ...]:
    """Text and digits in turn. Digits without leading zeros compare by length, then as text."""
    pieces: list[Any] = re.split(r"([0-9]+)", name)
    for index in range(1, len(pieces), 2):
        digits = pieces[index].lstrip("0")
        pieces[index] = (len(digits), digits)
    return tuple(pieces)


@dataclass(frozen=True)
class Listing:
    """What a folder holds, each in natural order; together all of it.

    images: files whose suffix is one of `IMAGE_SUFFIXES`. hidden: names that begin with a dot, such
    as the `._0001.jpg` that macOS writes beside a file. others: other files, and folders.
    """

    images: tuple[Path, ...] = ()
    hidden: tuple[Path, ...] = ()
    others: tuple[Path, ...] = ()

    def skipped(self) -> str:
        """What is no image, counted, as in "1 other (notes.txt)"; "" if nothing."""
        told = []
        if self.hidden:
            told.append(f"{len(self.hidden)} hidden ({_few(self.hidden)})")
        if self.others:
            told.append(f"{len(self.others)} other ({_few(self.others)})")
        return ", ".join(told)


NOTHING = Listing()
"""The listing of an empty folder."""


def list_images(folder: Path) -> Listing:
    """Sort the entries of a folder into images and what is skipped. OSError if there is none.

    Example:
        >>> from pathlib import Path; from edgeunet.listing import list_images
        >>> for name in ("a10.png", "a9.png", "._a9.png"): Path(name).touch()
        >>> [path.name for path in list_images(Path(".")).images]
        ['a9.png', 'a10.png']
    """
    images, hidden, others = [], [], []
    for path in sorted(folder.iterdir(), key=natural_key):
        if path.name.startswith("."):
            hidden.append(path)
        elif path.suffix.lower() in IMAGE_SUFFIXES and not path.is_dir():
            images.append(path)
        else:
            others.append(path)
    return Listing(tuple(images), tuple(hidden), tuple(others))


def list_images_below(folder: Path, *, leave_out: Collection[str] = ()) -> Listing:
    """`list_images` of a folder and of all folders in it; links to folders are not followed.

    Args:
        leave_out: names, in lower case, of folders that are not entered. They are among `others`.

    Example:
        >>> from pathlib import Path; from edgeunet.listing import list_images_below
        >>> for name in ("a/x.png", "b/y.png", "masks/y.png"):
        ...     Path(name).parent.mkdir(); Path(name).touch()
        >>> [path.as_posix() for path in list_images_below(Path("."), leave_out={"masks"}).images]
        ['a/x.png', 'b/y.png']
    """
    images: list[Path] = []
    hidden: list[Path] = []
    others: list[Path] = []
    for where, folders, _ in os.walk(folder):
        here = list_images(Path(where))
        images += here.images
        hidden += here.hidden
        entered = {
            name
            for name in folders
            if name.lower() not in leave_out
            and not name.startswith(".")
            and not Path(where, name).is_symlink()
        }
        others += [path for path in here.others if path.name not in entered]
        folders[:] = sorted(entered, key=natural_key)
    return Listing(tuple(images), tuple(hidden), tuple(others))


def _few(paths: tuple[Path, ...]) -> str:
    """The first three names."""
    names = ", ".join(printable(path.name) for path in paths[:3])
    return names + (", ..." if len(paths) > 3 else "")
