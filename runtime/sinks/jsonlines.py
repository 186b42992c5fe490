"""Masks as lines of JSON with run-length encodings."""

from __future__ import annotations

import importlib
import json
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from edgeunet.errors import MissingDependencyError
from edgeunet.files import check_file, claim
from edgeunet.metrics import Mask

from ..frames import Segmented
from .base import Sink


class JsonLines(Sink):
    """Writes one JSON object per frame, one a line; no line is left half-written.

    `frame`, `name`, `time` and `presence` come from `Segmented`, `segments` from `segments`.

    Raises:
        UsageError: a directory is in its place. OutputExistsError: the file exists and `force` is
            false. OutputError: another run writes the file.
    """

    def __init__(self, path: Path, *, classes: Sequence[str], force: bool = False) -> None:
        import_coco()
        check_file(path, force=force)
        path.parent.mkdir(parents=True, exist_ok=True)
        self._classes = classes
        self._file = path.open("ab", buffering=0)  # truncated only once it is ours alone
        try:
            claim(self._file.fileno(), path)
            if path.is_file():  # a named pipe cannot be truncated
                self._file.truncate(0)
        except BaseException:
            self._file.close()
            raise
        self._end = 0  # of the last whole line, in bytes

    def write(self, segmented: Segmented) -> None:
        """Write one line; OSError if the disk is full."""
        frame, presence = segmented.frame, segmented.presence
        record = {
            "frame": frame.index,
            "name": frame.name,
            "time": frame.time,
            "presence": None if presence is None else [round(float(p), 6) for p in presence],
            "segments": segments(segmented.mask, self._classes),
        }
        line = json.dumps(record).encode() + b"\n"
        rest = memoryview(line)
        try:
            # A nearly full disk takes a part without an error, and the next write fails.
            while rest:
                rest = rest[self._file.write(rest) :]
        except OSError:
            with suppress(OSError):  # a named pipe cannot be truncated
                self._file.truncate(self._end)
            raise
        self._end += len(line)

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def segments(mask: Mask, classes: Sequence[str]) -> list[dict[str, Any]]:
    """One entry for each class in the mask (H, W).

    It has `category_id` and `category`, `area` in pixels, and `segmentation`: compressed run
    lengths in COCO's form, which `pycocotools.mask.decode` reads.

    Raises:
        MissingDependencyError: pycocotools is not installed.
    """
    coco = import_coco()
    found = []
    for class_id in map(int, np.unique(mask)):
        runs = coco.encode(np.asfortranarray(mask == class_id, np.uint8))
        found.append(
            {
                "category_id": class_id,
                "category": classes[class_id] if class_id < len(classes) else "",
                "area": int(coco.area(runs)),
                "segmentation": {"size": list(mask.shape), "counts": runs["counts"].decode()},
            }
        )
    return found


def import_coco() -> Any:
    """Import pycocotools.mask, which only run lengths need."""
    try:
        return importlib.import_module("pycocotools.mask")
    except ImportError:
        raise MissingDependencyError("pycocotools", "video") from None
