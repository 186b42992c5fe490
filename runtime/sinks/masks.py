"""Masks as PNG files."""

from __future__ import annotations

import re
from pathlib import Path

import cv2

from edgeunet.errors import OutputExistsError, UsageError
from edgeunet.files import write_bytes

from ..frames import Segmented
from .base import Sink

# The stems of the names that this sink gives; no other picture is its own to remove.
_NUMBER = re.compile(r"[0-9]{6}|[1-9][0-9]{6,}")


class MaskDirectory(Sink):
    """Class ids as `000000.png`, …, by the frames' numbers; each appears whole or not at all."""

    def __init__(self, path: Path, *, force: bool = False) -> None:
        if path.exists() and not path.is_dir():
            raise UsageError(f"{path} is a file; a directory for the masks was wanted.")
        if path.exists() and any(path.iterdir()):
            if not force:
                raise OutputExistsError(path)
            # Masks of an earlier, longer run must not pass for ones of this run.
            for old in path.glob("*.png"):
                if _NUMBER.fullmatch(old.stem):
                    old.unlink()
        path.mkdir(parents=True, exist_ok=True)
        self.path = path

    def write(self, segmented: Segmented) -> None:
        """Write the next mask."""
        encoded = cv2.imencode(".png", segmented.mask, [cv2.IMWRITE_PNG_COMPRESSION, 1])[1]
        name = f"{segmented.frame.index:06d}.png"
        write_bytes(self.path / name, encoded.tobytes(), sync=False)
