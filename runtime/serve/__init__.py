"""`edgeunet serve`: a page that shows a stream, and takes images, over HTTP."""

from __future__ import annotations

from .server import serve

__all__ = ["serve"]
