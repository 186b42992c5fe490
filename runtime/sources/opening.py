"""Opens the source that a path or address names; and image files as a source."""

from __future__ import annotations

import glob
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from edgeunet.data.images import read_image
from edgeunet.errors import SourceError
from edgeunet.listing import IMAGE_SUFFIXES

from ..frames import SourceFrame, SourceInfo
from .addresses import connector, scheme_of
from .base import Source
from .live import Connection, LiveSource, Timeouts
from .redaction import redacted
from .video import VIDEO_SUFFIXES, VideoFile

Kind = Literal["image", "folder", "glob", "dataset", "video", "live"]
"""What a path or address may mean. dataset: a folder with a `dataset.json`."""


@dataclass(frozen=True)
class Frames:
    """Frames at a path or address, which `read` opens, each time anew.

    where: the path, glob or address. files: the image files, by name, or the video; empty for a
    camera, and for a data set with no image beside its `dataset.json`.

    Example:
        >>> import cv2; from edgeunet.runtime.sources import Frames
        >>> _ = cv2.imwrite("a.png", frame)
        >>> Frames.open("a.png").kind
        'image'
    """

    where: str = field(repr=False)  # it may hold a password
    kind: Kind
    files: tuple[Path, ...] = ()
    _connect: Callable[[], Connection] | None = field(default=None, repr=False)

    @classmethod
    def open(cls, source: str | Path) -> Frames:
        """Find out what a path or address names, without decoding or connecting.

        Args:
            source: an image, a directory or glob of images, a data set, a video file, or a camera
                or stream: `rtsp://…`, `http://…` (MJPEG),
                `v4l2:///dev/video0?size=1280x720&rate=30&format=mjpeg`,
                `csi://0?size=1280x720&rate=30` or `gst:PIPELINE ! appsink`.

        Raises:
            UsageError: an unknown scheme, or an address that its scheme does not allow.
            SourceError: missing or empty, or neither an image nor a video.
        """
        where, path = str(source), Path(source)
        if scheme_of(source) is not None:
            return cls(where, "live", _connect=connector(source, timeouts=Timeouts()))
        if path.is_dir():
            return _folder(path)
        if path.suffix.lower() in VIDEO_SUFFIXES:
            if not path.is_file():
                raise SourceError(f"{redacted(source)} does not exist.")
            return cls(where, "video", (path,))
        if path.is_file():
            if path.suffix.lower() not in IMAGE_SUFFIXES:
                raise SourceError(
                    f"{path} is neither an image ({', '.join(sorted(IMAGE_SUFFIXES))}) nor a video "
                    f"({', '.join(sorted(VIDEO_SUFFIXES))})."
                )
            return cls(where, "image", (path,))
        if path.is_char_device():
            raise SourceError(f"{path} is a device. A camera is v4l2://{path.absolute()}.")
        return cls(where, "glob", _matches(source))

    @property
    def name(self) -> str:
        """What a report calls the frames."""
        return redacted(self.where) if self.kind == "live" else Path(self.where).absolute().name

    def read(self) -> Source:
        """Open the frames; they come in order, files by name.

        Raises:
            SourceError: a camera does not answer, a video cannot be opened, or a data set has no
                images of its own. While iterating, a file is unreadable or truncated; the error has
                the frame's number or name.
        """
        if self._connect is not None:
            return LiveSource(self.where, self._connect)
        if self.kind == "video":
            return VideoFile(self.files[0])
        if not self.files:
            raise SourceError(
                f"{self.where} is a data set. Pass one of its folders, such as "
                f"{Path(self.where) / 'val' / 'images'}."
            )
        return Images(self.files)


class Images(Source):
    """Image files, in the given order.

    Raises:
        SourceError: while reading, a file is not an image.
    """

    def __init__(self, files: Sequence[Path]) -> None:
        super().__init__()
        self.files = files
        self.info = SourceInfo(len(files), None)

    def _read(self) -> Generator[SourceFrame, None, None]:
        for index, path in enumerate(self.files):
            yield SourceFrame(index, path.name, read_image(path))


def _folder(path: Path) -> Frames:
    files = tuple(sorted(item for item in path.iterdir() if item.suffix.lower() in IMAGE_SUFFIXES))
    if (path / "dataset.json").is_file():
        return Frames(str(path), "dataset", files)
    if not files:
        raise SourceError(f"{path} holds no image ({', '.join(sorted(IMAGE_SUFFIXES))}).")
    return Frames(str(path), "folder", files)


def _matches(source: str | Path) -> tuple[Path, ...]:
    """Files that match a glob, sorted."""
    matches = (Path(name) for name in glob.glob(str(source), recursive=True))  # noqa: PTH207
    files = tuple(sorted(match for match in matches if match.is_file()))
    if not files:
        raise SourceError(
            f"{redacted(source)} does not exist, and no file matches it as a glob."
            + ("" if Path(source).suffix else " A camera is v4l2:///dev/video0 or csi://0.")
        )
    return files
