"""Where frames come from: images, a video file, a camera or stream."""

from __future__ import annotations

from pathlib import Path

from ..frames import SourceFrame, SourceInfo
from .addresses import connector, scheme_of
from .base import Source
from .images import Images, read_image
from .iterable import IterableSource
from .live import LiveSource, Timeouts
from .redaction import redacted
from .video import VIDEO_SUFFIXES, VideoFile

__all__ = [
    "Images",
    "IterableSource",
    "LiveSource",
    "Source",
    "SourceFrame",
    "SourceInfo",
    "VideoFile",
    "open_source",
    "read_image",
    "redacted",
]


def open_source(source: str | Path) -> Source:
    """Open a source; its frames come in order (files by name).

    Args:
        source: an image, a directory or glob of images, a video file, or a camera or stream:
            `rtsp://…`, `http://…` (MJPEG), `v4l2:///dev/video0?size=1280x720&rate=30&format=mjpeg`,
            `csi://0?size=1280x720&rate=30` or `gst:PIPELINE ! appsink`.

    Raises:
        UsageError: no such kind of source, or an address that its kind does not have.
        SourceError: missing or empty, or a camera that does not answer; while iterating, of files
            only: unreadable or truncated, naming the frame.
    """
    if scheme_of(source) is not None:
        return LiveSource(str(source), connector(source, timeouts=Timeouts()))
    path = Path(source)
    if path.suffix.lower() in VIDEO_SUFFIXES and not path.is_dir():
        return VideoFile(source)
    return Images(source)
