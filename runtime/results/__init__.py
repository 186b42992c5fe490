"""What a segmenter returns: masks, and what people make of them."""

from __future__ import annotations

from .result import FrameResult, Result

__all__ = ["FrameResult", "Result"]
