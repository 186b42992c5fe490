"""Outputs for masks: pictures, a video, JSON Lines, a raw pipe, a function, or none."""

from __future__ import annotations

from .base import CallbackSink, NullSink, Sink
from .jsonlines import JsonLines
from .opening import Output, check_output, open_sink
from .overlay import Palette, colourise, overlay
from .pictures import MaskDirectory, OverlayDirectory, OverlayPicture, encode_mask
from .pipe import RawPipe
from .video import OverlayVideo, VideoWriter

__all__ = [
    "CallbackSink",
    "JsonLines",
    "MaskDirectory",
    "NullSink",
    "Output",
    "OverlayDirectory",
    "OverlayPicture",
    "OverlayVideo",
    "Palette",
    "RawPipe",
    "Sink",
    "VideoWriter",
    "check_output",
    "colourise",
    "encode_mask",
    "open_sink",
    "overlay",
]
