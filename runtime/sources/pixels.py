"""Pixels of PyAV's frames."""

from __future__ import annotations

from typing import Any

from ..frames import Frame


class Pixels:
    """Frames as 8-bit RGB (H, W, 3).

    The converter is kept: `VideoFrame.to_ndarray` sets up one for each frame, which takes a third
    of the time that decoding a small frame does.
    """

    def __init__(self, av: Any) -> None:
        self._converter = av.video.reformatter.VideoReformatter()

    def __call__(self, frame: Any) -> Frame:
        """Pixels of a frame of any format."""
        picture: Frame = self._converter.reformat(frame, format="rgb24").to_ndarray()
        return picture
