"""Raw bytes for another program."""

from __future__ import annotations

from collections.abc import Callable
from typing import BinaryIO

import numpy as np
import numpy.typing as npt

from edgeunet.errors import SourceError

from ..frames import Segmented
from .base import Sink
from .overlay import Palette, overlay


class RawPipe(Sink):
    """Writes frames of one size as raw bytes, row by row, with nothing between them.

    Args:
        render: makes the pixels to write, (H, W) class ids or (H, W, 3) colours, uint8.
    """

    def __init__(
        self, file: BinaryIO, render: Callable[[Segmented], npt.NDArray[np.uint8]]
    ) -> None:
        self._file = file
        self._render = render
        self._shape: tuple[int, ...] | None = None

    def write(self, segmented: Segmented) -> None:
        """Write one frame; SourceError if its size differs from the first."""
        pixels = self._render(segmented)
        if self._shape is None:
            self._shape = pixels.shape
        if pixels.shape != self._shape:
            first, now = (f"{shape[0]}x{shape[1]}" for shape in (self._shape, pixels.shape))
            raise SourceError(
                f"frame size changed from {first} to {now}; a raw pipe cannot signal that. Write "
                "masks to a directory, or NAME.jsonl, instead."
            )
        self._file.write(np.ascontiguousarray(pixels).data)
        self._file.flush()


def mask_pixels(segmented: Segmented) -> npt.NDArray[np.uint8]:
    """Class ids (H, W)."""
    return segmented.mask


def overlay_pixels(palette: Palette) -> Callable[[Segmented], npt.NDArray[np.uint8]]:
    """A function that draws class colours over the frame, (H, W, 3) RGB."""
    return lambda segmented: overlay(segmented.frame.picture, segmented.mask, palette)
