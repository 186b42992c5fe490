"""Sources of frames: images, videos, a camera or stream, or a caller's own iterable."""

from __future__ import annotations

from ..frames import SourceFrame, SourceInfo
from .base import Source
from .images import Images
from .iterable import IterableSource
from .live import LiveSource
from .opening import Frames
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
