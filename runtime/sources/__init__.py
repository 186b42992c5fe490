"""Where frames come from: an image, a directory or glob of images, a video file."""

from __future__ import annotations

from pathlib import Path

from edgeunet.errors import UsageError

from .base import Source, SourceFrame, SourceInfo
from .images import Images, read_image
from .video import VIDEO_SUFFIXES, VideoFile

__all__ = [
    "Images",
    "Source",
    "SourceFrame",
    "SourceInfo",
    "VideoFile",
    "open_source",
    "read_image",
]


def open_source(source: str | Path) -> Source:
    """Open a source; its frames come in order (files by name).

    Raises:
        UsageError: a kind of source that this version does not read.
        SourceError: missing or empty; while iterating: unreadable or truncated, naming the frame.
    """
    if "://" in str(source):
        raise UsageError(
            f"{str(source).split('://')[0]}:// is not read by this version. Pass an image, a "
            "directory or glob of images, or a video file."
        )
    path = Path(source)
    if path.suffix.lower() in VIDEO_SUFFIXES and not path.is_dir():
        return VideoFile(source)
    return Images(source)
