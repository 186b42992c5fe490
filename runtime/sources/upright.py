"""Pictures the way the camera was held."""

from __future__ import annotations

import struct
from typing import Any

import numpy as np

from ..frames import Frame


def upright(image: Frame, frame: Any) -> Frame:
    """Turn and mirror the picture (H, W, 3) of a PyAV frame as its display matrix says.

    Phones write one instead of turning pixels. The matrix (a, b, u; c, d, v; x, y, w) takes a pixel
    (p, q) to (a p + c q + x, b p + d q + y); angles between the right ones go to the nearest.
    Source: libavutil/display.h.
    """
    matrix = frame.side_data.get("DISPLAYMATRIX")
    if matrix is None:
        return image
    a, b, _, c, d = struct.unpack_from("=5i", bytes(matrix))
    across, down = a, d
    if abs(b) > abs(a):
        image, across, down = image.swapaxes(0, 1), c, b
    turned = image[:: -1 if down < 0 else 1, :: -1 if across < 0 else 1]
    return np.ascontiguousarray(turned)
