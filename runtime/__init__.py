"""Runs bundles: preprocessing, a backend, post-processing. Never imports torch."""

from .backends import Result
from .bundle import Bundle, open_bundle
from .segmenter import Segmenter, load

__all__ = ["Bundle", "Result", "Segmenter", "load", "open_bundle"]
