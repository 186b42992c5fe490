"""Runs bundles: preprocessing, a backend, post-processing. Never imports torch."""

from edgeunet.bundle.bundle import Bundle, open_bundle

from .backends.tiling import Tiling
from .frames import Result
from .segmenter import Segmenter, load

__all__ = ["Bundle", "Result", "Segmenter", "Tiling", "load", "open_bundle"]
