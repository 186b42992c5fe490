"""Frames larger than the net's input at their own resolution, by overlapping tiles."""

from .backend import TiledBackend
from .plan import Blend, Tiling

__all__ = ["Blend", "TiledBackend", "Tiling"]
