"""Runs bundles: preprocessing, a backend, post-processing. Never imports torch."""

from edgeunet.bundle.bundle import Bundle, open_bundle

from .options import Tiling
from .results import Result
from .segmenter import Segmenter, load

__all__ = ["Bundle", "Result", "Segmenter", "Tiling", "load", "open_bundle"]
