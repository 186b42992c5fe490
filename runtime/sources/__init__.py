"""Sources of frames: images, a video file, a camera or stream, or a caller's own iterable."""

from __future__ import annotations

from ..frames import SourceFrame, SourceInfo
from .base import Source
from .iterable import IterableSource
from .live import LiveSource
from .opening import Frames, Images
from .redaction import redacted
from .video import VideoFile

__all__ = [
    "Frames",
    "Images",
    "IterableSource",
    "LiveSource",
    "Source",
    "SourceFrame",
    "SourceInfo",
    "VideoFile",
    "redacted",
]
