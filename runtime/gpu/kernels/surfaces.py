"""Launch the kernel that makes an upright RGB frame of a video decoder's surface."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from .launch import Launcher

# As in the kernel.
_SURFACE = np.dtype(
    [("address", np.uint64, 2), ("pitch", np.int32, 2), ("side", np.int32, 2)], align=True
)
_BLOCK = (32, 4, 1)

_BT601 = (0.299, 0.114)
SPACES = {
    0: _BT601,
    1: (0.2126, 0.0722),  # BT.709
    2: _BT601,
    5: _BT601,
    6: _BT601,
    9: (0.2627, 0.0593),  # BT.2020, with non-constant luminance
}
"""Share of red and of blue in the luma, by the number of ITU-T H.273, table 4 (AVColorSpace).

2 is "unspecified", and 0 is RGB, which no surface holds. FFmpeg takes both for BT.601.
"""


@dataclass(frozen=True)
class Surface:
    """A picture in NV12 on the device.

    luma, chroma: addresses of the planes (height, width) and (height / 2, width / 2, 2). Pitches
    are bytes from one row to the next. Sides are even.
    """

    luma: int
    chroma: int
    luma_pitch: int
    chroma_pitch: int
    height: int
    width: int


class RgbKernel:
    """Makes upright RGB of surfaces: what `Pixels` and `upright` make on the CPU, to one level.

    Args:
        space: number of the colour space, one of `SPACES`. full_range: black is 0 and white 255,
            not 16 and 235.
        centred: whether samples of chroma lie in the middle of their rows and of their columns, or
            else beside the first of two.
    """

    def __init__(
        self, module: Launcher, *, space: int, full_range: bool, centred: tuple[bool, bool]
    ) -> None:
        self._module = module
        self._colours = _integers([*centred, *_colours(*SPACES[space], full_range=full_range)])

    def __call__(
        self, surface: Surface, turn: tuple[bool, bool, bool], *, out: int, stream: Any
    ) -> None:
        """Queue the work.

        Args:
            turn: whether rows and columns are swapped, and then turned round, see `Turn`.
            out: address of the frame (height, width, 3), without gaps; sides as they are turned.
        """
        height, width = surface.height, surface.width
        if turn[0]:
            height, width = width, height
        structure = np.zeros((), _SURFACE)
        structure["address"] = surface.luma, surface.chroma
        structure["pitch"] = surface.luma_pitch, surface.chroma_pitch
        structure["side"] = surface.height, surface.width
        self._module.launch(
            "upright_rgb",
            (-(-width // _BLOCK[0]), -(-height // _BLOCK[1]), 1),
            _BLOCK,
            [np.uint64(out), np.void(structure.tobytes()),
             _integers(turn), self._colours],
            stream,
        )  # fmt: skip


def _colours(red: float, blue: float, *, full_range: bool) -> list[float]:
    """`Colours` of pixels.cuh behind the siting, from the shares of red and blue in the luma.

    Source: ITU-T H.273, 8.3.
    """
    green = 1 - red - blue
    luma, chroma = (1.0, 1.0) if full_range else (255 / 219, 255 / 224)
    of_v, of_u = 2 * (1 - red) * chroma, 2 * (1 - blue) * chroma
    factors = (of_v, of_u * blue / green, of_v * red / green, of_u)
    return [0 if full_range else 16, luma * (1 << 20), *(each * (1 << 16) for each in factors)]


def _integers(values: Sequence[float]) -> np.void:
    """A C structure of ints, of values that are rounded."""
    structure: np.void = np.void(np.rint(values).astype(np.int32).tobytes())
    return structure
