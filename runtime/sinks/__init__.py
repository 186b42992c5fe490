"""Outputs for masks: pictures, a video, JSON, tables, a raw pipe, a function, or none."""

from __future__ import annotations

from .base import CallbackSink, NullSink, Sink
from .jsonlines import JsonLines, PolygonLines
from .opening import Format, Output, check_output, open_sink
from .overlay import Palette, colourise, overlay
from .pictures import MaskDirectory, OverlayDirectory, OverlayPicture, encode_mask
from .pipe import RawPipe
from .shapes import CocoFile, RegionTable
from .video import OverlayVideo, VideoWriter

__all__ = [
    "CallbackSink",
    "CocoFile",
    "Format",
    "JsonLines",
    "MaskDirectory",
    "NullSink",
    "Output",
    "OverlayDirectory",
    "OverlayPicture",
    "OverlayVideo",
    "Palette",
    "PolygonLines",
    "RawPipe",
    "RegionTable",
    "Sink",
    "VideoWriter",
    "check_output",
    "colourise",
    "encode_mask",
    "open_sink",
    "overlay",
]
