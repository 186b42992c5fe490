"""Windows of an image: where they lie, what they weigh, and the plain way to average them."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise, product
from typing import Any, NamedTuple

import cv2
import numpy as np
import numpy.typing as npt

from ..bundle.manifest import InputSpec
from ..bundle.steps import Window
from .resize import Size

Floats = npt.NDArray[np.float32]
Box = tuple[slice, slice]
"""Rows and columns of an image."""

_SIGMA = 1 / 8
"""Share of a window's side."""


class Stretch(NamedTuple):
    """Part of a window along one axis that lies inside the image.

    inside: its pixels in the image. within: its pixels in the window.
    """

    inside: slice
    within: slice


Place = tuple[Stretch, Stretch]
"""Rows and columns of a window."""


def stretch(start: int, side: int, length: int) -> Stretch:
    """The part of a window of `side` pixels from `start` on that an axis of `length` has."""
    first, stop = max(start, 0), min(start + side, length)
    return Stretch(slice(first, stop), slice(first - start, stop - start))


def starts(length: int, side: int, window: Window) -> list[int]:
    """First pixels of the windows of `side` pixels along an axis of `length`, ascending.

    An axis shorter than a window lies in its middle, so that the window starts at 0 or before it.
    Source: nnU-Net, nnunetv2/inference/sliding_window_prediction.py.

    Example:
        >>> from edgeunet.bundle.steps import Window
        >>> from edgeunet.data.windows import starts
        >>> starts(110, 64, Window(step=0.5)), starts(60, 64, Window())
        ([0, 23, 46], [-2])
    """
    last = length - side
    if last <= 0:
        return [-(-last // 2)]
    if window.blend == "none":
        return [*range(0, last, max(1, round(window.step * side))), last]
    steps = math.ceil(last / (side * window.step))
    return [int(np.round(last / steps * index)) for index in range(steps + 1)]


def weights(size: Size) -> Floats:
    """Weights (height, width) of a window's pixels, positive, 1 at (height // 2, width // 2)."""
    return np.outer(*map(_gaussian, size)).astype(np.float32)


def _gaussian(side: int) -> npt.NDArray[np.float64]:
    deviations = (np.arange(side) - side // 2) / (_SIGMA * side)
    return np.exp(-np.square(deviations) / 2)


def content(frame: npt.NDArray[Any], spec: InputSpec) -> Box:
    """The box of a frame (H, W, C) that is segmented: all of it unless the windows crop.

    Example:
        >>> from edgeunet.bundle.manifest import InputSpec
        >>> from edgeunet.bundle.steps import Window
        >>> from edgeunet.data.windows import content
        >>> frame = np.zeros((8, 9, 3), np.uint8)
        >>> frame[2:4, 5] = 1
        >>> content(frame, InputSpec(4, 4, window=Window(crop=True)))
        (slice(2, 4, None), slice(5, 6, None))
    """
    height, width = frame.shape[:2]
    if spec.window is None or not spec.window.crop:
        return slice(0, height), slice(0, width)
    filled = (frame != 0).any(axis=2)
    rows, columns = (np.flatnonzero(filled.any(axis=axis)) for axis in (1, 0))
    if not len(rows):
        return slice(0, height), slice(0, width)
    return slice(int(rows[0]), int(rows[-1]) + 1), slice(int(columns[0]), int(columns[-1]) + 1)


def middle(frame: npt.NDArray[Any], spec: InputSpec) -> tuple[npt.NDArray[Any], Place]:
    """What of a frame is segmented, and the place of the window in its middle."""
    part = frame[content(frame, spec)]
    rows, columns = (
        stretch(int((length - side) / 2), side, length)
        for length, side in zip(part.shape[:2], (spec.height, spec.width), strict=True)
    )
    return part, (rows, columns)


def decided(length: int, side: int, window: Window) -> list[tuple[int, int, int]]:
    """Where each window along an axis starts, and the first and the end of what it decides on.

    Blended windows decide on all of their pixels.
    """
    begins = starts(length, side, window)
    if window.blend == "gaussian":
        return [(start, max(start, 0), min(start + side, length)) for start in begins]
    borders = [0, *((one + other + side) // 2 for one, other in pairwise(begins)), length]
    return list(zip(begins, borders, borders[1:], strict=False))


def averaged(infer: Callable[[Floats], Floats], image: Floats, spec: InputSpec) -> Floats:
    """Logits (classes, H, W) of a whole image by its windows: the plain way, for references.

    It holds the logits of the whole image, and shares with the runtime's way only where windows lie
    and what they weigh.

    Args:
        infer: from a net input (1, C, h, w) to logits (1, classes, h', w').
        image: (C, H, W), normalised, at its own size, at least as large as a window.
    """
    assert spec.window is not None
    size = spec.height, spec.width
    weight = weights(size) if spec.window.blend == "gaussian" else np.ones(size, np.float32)
    seen = np.zeros(image.shape[1:])
    total: npt.NDArray[np.float64] | None = None
    axes = (decided(*sides, spec.window) for sides in zip(image.shape[1:], size, strict=True))
    for (top, *rows), (left, *columns) in product(*axes):
        logits = infer(image[None, :, top : top + size[0], left : left + size[1]])[0]
        if total is None:
            total = np.zeros((len(logits), *seen.shape))
        own = slice(rows[0] - top, rows[1] - top), slice(columns[0] - left, columns[1] - left)
        place = slice(*rows), slice(*columns)
        for plane, sums in zip(logits, total, strict=True):
            sums[place] += (_enlarged(plane, size) * weight)[own]
        seen[place] += weight[own]
    assert total is not None
    return (total / seen).astype(np.float32)


def mask_of(
    infer: Callable[[Floats], Floats], whole: Floats, frame: npt.NDArray[Any], spec: InputSpec
) -> npt.NDArray[np.uint8]:
    """Class ids (H, W) of a frame (H, W, C) by `averaged`: the plain way, for references.

    Args:
        whole: (C, h, w), normalised: the frame's `content` in the middle of at least a window.
    """
    box = content(frame, spec)
    inside = tuple(
        slice(max(side - length, 0) // 2, max(side - length, 0) // 2 + length)
        for length, side in zip(frame[box].shape, (spec.height, spec.width), strict=False)
    )
    mask = np.zeros(frame.shape[:2], np.uint8)
    mask[box] = averaged(infer, whole, spec).argmax(0)[inside]
    return mask


def _enlarged(plane: Floats, size: Size) -> Floats:
    """Logits (h, w) at the window's size, bilinearly."""
    return np.asarray(cv2.resize(plane, size[::-1], interpolation=cv2.INTER_LINEAR), np.float32)
