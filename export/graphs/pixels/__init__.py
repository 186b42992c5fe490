"""Graphs from frames to masks, for consumers that bring neither pre- nor post-processing."""

from .build import PixelsForm, check_form, write_all_pixels, write_pixels

__all__ = ["PixelsForm", "check_form", "write_all_pixels", "write_pixels"]
