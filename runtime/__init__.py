"""Runs bundles: preprocessing, a backend, post-processing. Never imports torch."""

from .backends import Result
from .bundle import Bundle, open_bundle
from .segmenter import Segmenter, load
from .tiling import Tiling

__all__ = ["Bundle", "Result", "Segmenter", "Tiling", "load", "open_bundle"]
