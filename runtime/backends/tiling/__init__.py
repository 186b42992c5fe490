"""Frames larger than the net's input, at their own resolution: overlapping tiles, one mask."""

from .backend import TiledBackend
from .windows import WindowedBackend, by_windows

__all__ = ["TiledBackend", "WindowedBackend", "by_windows"]
