"""Frames larger than the net's input, at their own resolution: overlapping tiles, one mask."""

from .backend import TiledBackend
from .plan import Blend, Tiling

__all__ = ["Blend", "TiledBackend", "Tiling"]
