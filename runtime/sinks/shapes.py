"""Regions of masks as files for other tools: COCO's JSON, and tables."""

from __future__ import annotations

import csv
import io
import json
import os
from collections.abc import Iterable
from contextlib import ExitStack
from pathlib import Path

from edgeunet.files import check_file, locked, temporary_file
from edgeunet.shapes.coco import INFO, annotations_of, categories_of, image_of
from edgeunet.shapes.regions import Legend, regions_of

from ..frames import Segmented
from .base import Sink
from .lines import LineFile

COLUMNS = (
    *("frame", "name", "time", "class_id", "class", "area"),
    *("x", "y", "width", "height", "centroid_x", "centroid_y", "confidence"),
)


class RegionTable(Sink):
    """Writes CSV: a header of `COLUMNS`, then one line for each region of each frame.

    A frame without a region has no line. Black classes are left out. See `Region`; the box is `x`,
    `y`, `width`, `height`. Lines can be read as soon as their frame is written.

    Raises:
        UsageError: a directory is in its place. OutputExistsError: the file exists and `force` is
            false. OutputError: another run writes the file.
    """

    def __init__(self, path: Path, *, legend: Legend, force: bool = False) -> None:
        self._legend = legend
        self._lines = LineFile(path, force=force)
        self._lines.write(_csv([COLUMNS]))

    def write(self, segmented: Segmented) -> None:
        """Write the lines of one frame; OSError if the disk is full."""
        frame = segmented.frame
        time = None if frame.time is None else round(frame.time, 6)
        regions = regions_of(segmented.mask, self._legend, confidence=segmented.confidence)
        rows = [
            (
                *(frame.index, frame.name, time, region.class_id, region.label, region.area),
                *(*region.box, *(round(value, 2) for value in region.centroid)),
                None if region.confidence is None else round(region.confidence, 4),
            )
            for region in regions
        ]
        self._lines.write(_csv(rows))

    def close(self) -> None:
        """Close the file."""
        self._lines.close()


def _csv(rows: Iterable[Iterable[object]]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue()


class CocoFile(Sink):
    """Writes COCO's JSON, see `annotations_of`: a record for each frame and each region.

    The file appears under its name when closed, whole, and only if it holds a frame. Annotations go
    to the disk as they come; the records of the frames, some 150 bytes each, are held until then.

    Args:
        video: name of the file that frames without a name are of. Frame 12 of it, counted from 1,
            has the `file_name` `VIDEO#12`.

    Raises:
        UsageError: a directory is in its place. OutputExistsError: the file exists and `force` is
            false. OutputError: another run writes the file.
    """

    def __init__(
        self, path: Path, *, legend: Legend, video: str = "frame", force: bool = False
    ) -> None:
        check_file(path, force=force)
        path.parent.mkdir(parents=True, exist_ok=True)
        self.path, self._legend, self._video = path, legend, video
        self._images: list[str] = []
        self._annotations = 0
        self._whole = True
        head = {"info": INFO, "categories": categories_of(legend)}
        with ExitStack() as stack:
            stack.enter_context(locked(path))
            self._temporary = stack.enter_context(temporary_file(path.parent))
            handle = os.dup(self._temporary.handle)
            self._file = stack.enter_context(os.fdopen(handle, "w", encoding="utf-8"))
            self._file.write(f'{json.dumps(head)[:-1]}, "annotations": [')
            self._stack = stack.pop_all()

    def write(self, segmented: Segmented) -> None:
        """Write the annotations of one frame; OSError if the disk is full."""
        frame, mask = segmented.frame, segmented.mask
        number = len(self._images) + 1
        records = annotations_of(
            mask,
            self._legend,
            image_id=number,
            first_id=self._annotations + 1,
            confidence=segmented.confidence,
        )
        self._whole = False  # until all of it is written
        for record in records:
            self._file.write(f"{',' if self._annotations else ''}\n{json.dumps(record)}")
            self._annotations += 1
        name = frame.name or f"{self._video}#{frame.index + 1}"
        shape = (mask.shape[0], mask.shape[1])
        record = image_of(number, name, shape, frame=frame.index, time=frame.time)
        self._images.append(json.dumps(record))
        self._whole = True

    def close(self) -> None:
        """Finish the file and move it to its name; a second call does nothing."""
        with self._stack:
            if self._images and self._whole:
                images = ",\n".join(self._images)
                self._file.write(f'\n], "images": [\n{images}\n]}}\n')
                self._file.flush()
                self._temporary.move_to(self.path)
            self._images = []
