"""Regions of masks as files for other tools: COCO's JSON, and tables."""

from __future__ import annotations

import csv
import io
import json
import os
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

from edgeunet.errors import UsageError
from edgeunet.files import check_directory, check_file, locked, temporary_file
from edgeunet.shapes.coco import INFO, annotations_of, categories_of, image_of
from edgeunet.shapes.regions import Legend, regions_of

from ..frames import Segmented, SourceFrame
from ..sources.containers import VIDEO_SUFFIXES
from .base import Sink
from .lines import LineFile

COLUMNS = (
    *("frame", "name", "time", "class_id", "class", "area"),
    *("x", "y", "width", "height", "centroid_x", "centroid_y", "confidence"),
)
_IMAGES = "images"


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


class PerSource(Sink):
    """Writes a directory of files, one for each video, named after it, and one for all images.

    Each numbers and times its own frames. Frames of a camera are in `frame`.

    Args:
        sources: the files that are read. suffix: of the files. make: opens one, given its path and
            the name of the video.

    Raises:
        UsageError: two videos would become one file. OutputExistsError: the directory holds
            something and `force` is false. OutputError: another run writes into the directory.
    """

    def __init__(
        self,
        path: Path,
        *,
        sources: Iterable[Path],
        suffix: str,
        make: Callable[[Path, str], Sink],
        force: bool = False,
    ) -> None:
        check_directory(path, force=force)
        files = tuple(sources)
        check_videos(files, suffix)
        path.mkdir(parents=True, exist_ok=True)
        self.path, self._suffix, self._make = path, suffix, make
        self._alone = files[0].name if len(files) == 1 else "frame"
        self._sinks: dict[str, Sink] = {}
        self._written: dict[Path, str] = {}
        self._begins = 0.0
        with ExitStack() as stack:
            stack.enter_context(locked(path, lock=path / ".edgeunet.lock"))
            self._stack = stack.pop_all()

    def write(self, segmented: Segmented) -> None:
        """Write into the file of the frame's source."""
        video = video_of(segmented.frame) if segmented.frame.name else self._alone
        if video not in self._sinks:
            self._begins = segmented.frame.time or 0.0
            self._finish([name for name in self._sinks if name])  # videos come one after the other
            path = self.path / f"{Path(video).stem if video else _IMAGES}{self._suffix}"
            if path in self._written:  # addresses of videos are not among the files
                raise _one_file(self._written[path], video, path.name)
            self._written[path] = video or "the images"
            self._sinks[video] = self._make(path, video)
        if video and segmented.frame.name:
            segmented = replace(segmented, frame=self._own(segmented.frame))
        self._sinks[video].write(segmented)

    def close(self) -> None:
        """Finish all files; a second call does nothing."""
        with self._stack:
            self._finish(list(self._sinks))

    def _own(self, frame: SourceFrame) -> SourceFrame:
        """A frame of one of several videos with its number and time in that video."""
        time = None if frame.time is None else frame.time - self._begins
        return replace(frame, index=int(frame.name.rpartition("#")[2]) - 1, time=time)

    def _finish(self, names: list[str]) -> None:
        with ExitStack() as stack:
            for name in names:
                stack.callback(self._sinks.pop(name).close)


def video_of(frame: SourceFrame) -> str:
    """Name of the video that a named frame is of, as `Several` names them; "" of an image.

    Example:
        >>> from edgeunet.runtime.frames import SourceFrame
        >>> from edgeunet.runtime.sinks.shapes import video_of
        >>> [video_of(SourceFrame(0, name, frame)) for name in ("a.mp4#12", "a.tif#2", "a.png")]
        ['a.mp4', '', '']
    """
    name, _, number = frame.name.rpartition("#")
    return name if number.isdigit() and Path(name).suffix.lower() in VIDEO_SUFFIXES else ""


def check_videos(sources: Iterable[Path], suffix: str) -> None:
    """Refuse videos that would be written to one file of a directory, with UsageError."""
    named: dict[str, Path | None] = {_IMAGES: None}
    for file in sources:
        if file.suffix.lower() not in VIDEO_SUFFIXES:
            continue
        if file.stem in named:
            raise _one_file(named[file.stem] or "the images", file, f"{file.stem}{suffix}")
        named[file.stem] = file


def _one_file(first: object, second: object, name: str) -> UsageError:
    return UsageError(
        f"{first} and {second} would both be written as {name}. Rename one, run them one after the "
        f"other into two directories, or write one file, NAME{Path(name).suffix}."
    )
