"""Frames larger than the net's input, at their own resolution: overlapping tiles, one mask."""

from .backend import TiledBackend

__all__ = ["TiledBackend"]
