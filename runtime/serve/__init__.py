"""`edgeunet serve`: a web page that shows the segmented stream, and segments uploaded images."""

from __future__ import annotations

from .server import open_service

__all__ = ["open_service"]
