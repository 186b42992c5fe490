"""Resize a plane of pixels, by the filters that nets are trained with.

A filter is two tables, one for each axis: which source pixels an output pixel reads, and their
weights. The CUDA kernel reads the tables. On the CPU, OpenCV and Pillow compute the same where they
are faster.

| filter | where it is from | arithmetic |
|---|---|---|
| bilinear | `cv2.INTER_LINEAR`, PyTorch's `interpolate` | float; reads two pixels an axis, so it \
aliases if it shrinks a frame to less than half |
| antialias | PyTorch's `interpolate(antialias=True)`, torchvision | float; a triangle, widened by \
the scale |
| pillow | Pillow's `Image.resize(BILINEAR)`, Hugging Face, timm | as antialias, but each pass \
rounds to a byte |
| pillow_bicubic | Pillow's `Image.resize(BICUBIC)` | each pass rounds to a byte |
| torchvision | torchvision's transforms of uint8 tensors, `antialias=True` | as antialias, then \
rounded to a byte |
| area | `cv2.INTER_AREA` | float; the mean of the pixels that an output pixel covers |
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image

from ..bundle.manifest import BYTE_FILTERS, Filter
from ..errors import FrameError

Size = tuple[int, int]
"""Height and width, pixels."""
Floats = npt.NDArray[np.float64]
Indices = npt.NDArray[np.int64]

FRACTION_BITS = 22
"""Of the fixed-point weights of Pillow's filters. Source: Pillow, src/libImaging/Resample.c."""

_IN_PILLOW: dict[Filter, Image.Resampling] = {
    "pillow": Image.Resampling.BILINEAR,
    "pillow_bicubic": Image.Resampling.BICUBIC,
}
_LEAST_COVERED = 1e-3  # OpenCV's area leaves out a pixel that is covered by less


def resize(
    plane: npt.NDArray[Any],
    size: Size,
    filter: Filter,  # noqa: A002
) -> npt.NDArray[np.float32]:
    """Resize a plane (H, W) of uint8, uint16, int16 or float32 to `size` (h, w).

    Nothing is rounded, except by byte filters. Values keep their range.

    Raises:
        FrameError: a byte filter got values that are not bytes.

    Example:
        >>> from edgeunet.data.resize import resize
        >>> resize(np.array([[0, 10], [20, 31]], np.uint8), (1, 1), "area")
        array([[15.25]], dtype=float32)
    """
    check_depth(filter, plane.dtype)
    if plane.shape == size:
        return plane.astype(np.float32)
    if filter in _IN_PILLOW:
        return _by_pillow(plane, size, _IN_PILLOW[filter])
    floats = plane.astype(np.float32)
    if filter in ("antialias", "torchvision"):
        antialiased = _antialiased(floats, size)
        return antialiased if filter == "antialias" else np.rint(antialiased)
    how = cv2.INTER_AREA if filter == "area" else cv2.INTER_LINEAR
    return cv2.resize(floats, (size[1], size[0]), interpolation=how)  # type: ignore[return-value]


def resize_frame(frame: npt.NDArray[Any], size: Size, filter: Filter) -> npt.NDArray[Any]:  # noqa: A002
    """Resize a frame (H, W, C) to (h, w, C) of the same depth; integers are rounded once more.

    Raises:
        FrameError: as `resize`.

    Example:
        >>> from edgeunet.data.resize import resize_frame
        >>> resize_frame(np.full((6, 8, 3), 200, np.uint8), (3, 4), "antialias").shape
        (3, 4, 3)
    """
    if frame.shape[:2] == size:
        return frame
    planes = [resize(plane, size, filter) for plane in np.moveaxis(frame, -1, 0)]
    resized = np.stack(planes, -1)
    return (resized if frame.dtype.kind == "f" else np.rint(resized)).astype(frame.dtype)


def _by_pillow(
    plane: npt.NDArray[np.uint8], size: Size, how: Image.Resampling
) -> npt.NDArray[np.float32]:
    """One pass a call, because the order of the two depends on the version of Pillow."""
    image = Image.fromarray(plane)
    height, width = size
    first = (image.width, height) if _rows_first(plane.shape, size) else (width, image.height)
    return np.asarray(image.resize(first, how).resize((width, height), how), np.float32)


def _antialiased(plane: npt.NDArray[np.float32], size: Size) -> npt.NDArray[np.float32]:
    """Rows by the table: Pillow's floats are exact, but slow on a large plane."""
    rows = taps("antialias", plane.shape[0], size[0])
    resampled = np.empty((size[0], plane.shape[1]), np.float32)
    for out, start, weights in zip(resampled, rows.start.tolist(), rows.weights, strict=True):
        np.einsum("i,ij->j", weights, plane[start : start + len(weights)], out=out)
    image = Image.fromarray(resampled).resize((size[1], size[0]), Image.Resampling.BILINEAR)
    return np.asarray(image)


def _rows_first(source: tuple[int, ...], target: Size) -> bool:
    """Whether rows are resampled before columns, as Pillow 13 does if that is less work.

    Byte filters round after each pass, so the order counts. Pillow 12 always starts with columns.
    """
    fewer_rows, fewer_columns = (
        before - after for before, after in zip(source, target, strict=True)
    )
    return fewer_rows > max(0, 2 * fewer_columns)


def check_depth(filter: Filter, depth: npt.DTypeLike) -> None:  # noqa: A002
    """FrameError if a filter that rounds to bytes gets values that are not bytes."""
    if filter in BYTE_FILTERS and depth != np.uint8:
        raise FrameError(
            f"filter {filter!r} rounds to bytes and takes uint8, got {np.dtype(depth)}. Use a "
            "filter without rounding: 'antialias' is the nearest to it."
        )


@dataclass(frozen=True, eq=False)
class Taps:
    """How an axis of m pixels becomes one of n: out[i] = sum of weights[i, j] * in[start[i] + j].

    start: (n,) int32. start[i] + k is at most m.
    weights: (n, k) float32; of Pillow's filters int32, in units of 2^-22. Their sum is rounded,
    halves up, and clipped to 0..255.
    """

    start: npt.NDArray[np.int32]
    weights: npt.NDArray[np.float32] | npt.NDArray[np.int32]


class Tables(NamedTuple):
    """The tables of both axes, and whether rows are resampled before columns."""

    rows: Taps
    columns: Taps
    rows_first: bool


def tables(filter: Filter, source: Size, target: Size) -> Tables:  # noqa: A002
    """The tables for planes of size `source` that become `target`."""
    # OpenCV's area is another filter for both axes if one of them grows.
    grows = source[0] < target[0] or source[1] < target[1]
    rows, columns = (
        taps(filter, before, after, grows=grows)
        for before, after in zip(source, target, strict=True)
    )
    return Tables(rows, columns, _rows_first(source, target))


def taps(filter: Filter, source: int, target: int, *, grows: bool | None = None) -> Taps:  # noqa: A002
    """The table of one axis of `source` pixels that becomes `target`.

    Args:
        grows: whether this axis or the other one grows. None: the other one does what this one
            does. Only `area` asks.

    Example:
        >>> from edgeunet.data.resize import taps
        >>> taps("area", 4, 2).weights
        array([[0.5, 0.5],
               [0.5, 0.5]], dtype=float32)
    """
    if source == target:
        start, weights = np.arange(target), np.ones((target, 1))
    elif filter == "bilinear":
        start, weights = _bilinear(source, target)
    elif filter == "area":
        grows = source < target if grows is None else grows
        start, weights = (_enlarged_area if grows else _shrunk_area)(source, target)
    elif filter == "pillow_bicubic":
        start, weights = _windowed(_cubic, 2.0, source, target)
    else:
        start, weights = _windowed(_triangle, 1.0, source, target)
    if filter in _IN_PILLOW:
        units = weights * (1 << FRACTION_BITS)
        return Taps(
            start.astype(np.int32), np.trunc(units + np.copysign(0.5, units)).astype(np.int32)
        )
    return Taps(start.astype(np.int32), weights.astype(np.float32))


def _windowed(
    kernel: Callable[[Floats], Floats], support: float, source: int, target: int
) -> tuple[Indices, Floats]:
    """Weights of a kernel that is widened by the scale if the axis shrinks.

    Each step rounds as in Pillow's precompute_coeffs, or fixed-point weights would differ.
    """
    scale = source / target
    widening = max(scale, 1.0)
    reach = support * widening
    centre = (np.arange(target) + 0.5) * scale
    first = np.maximum((centre - reach + 0.5).astype(np.int64), 0)
    last = np.minimum((centre + reach + 0.5).astype(np.int64), source)
    start, at = _window(first, last, source)
    weights = kernel((at - centre[:, None] + 0.5) * (1.0 / widening))
    weights[(at < first[:, None]) | (at >= last[:, None])] = 0.0
    total = np.cumsum(weights, axis=1)[:, -1:]  # `sum` adds in another order
    return start, weights / total


def _window(first: Indices, last: Indices, source: int) -> tuple[Indices, Indices]:
    """Starts (n,) and indices (n, k) of windows of one length that hold `first` to `last` - 1."""
    length = int((last - first).max())
    start = np.minimum(first, source - length)
    return start, start[:, None] + np.arange(length)


def _triangle(x: Floats) -> Floats:
    return np.maximum(1.0 - np.abs(x), 0.0)


def _cubic(x: Floats) -> Floats:
    """Keys' cubic with a = -0.5."""
    a, x = -0.5, np.abs(x)
    near = ((a + 2.0) * x - (a + 3.0)) * x * x + 1
    far = (((x - 5) * x + 8) * x - 4) * a
    return np.where(x < 1.0, near, np.where(x < 2.0, far, 0.0))


def _bilinear(source: int, target: int) -> tuple[Indices, Floats]:
    """Half-pixel, in integers: (i + 1/2) * source / target - 1/2, clamped to the axis."""
    numerator = (2 * np.arange(target) + 1) * source - target
    low, rest = np.divmod(np.clip(numerator, 0, 2 * target * (source - 1)), 2 * target)
    return _between(low, rest / (2 * target), source)


def _enlarged_area(source: int, target: int) -> tuple[Indices, Floats]:
    """As cv2.INTER_AREA where an axis grows: two pixels, mixed by where the border is.

    Source: OpenCV, modules/imgproc/src/resize.cpp, `cv::hal::resize`.
    """
    inverse = target / source
    at = np.arange(target)
    low = np.floor(at * (1.0 / inverse)).astype(np.int64)
    high = ((at + 1) - (low + 1) * inverse).astype(np.float32).astype(np.float64)
    weight = np.where(high <= 0, 0.0, high - np.floor(high))
    return _between(low, np.where(low >= source - 1, 0.0, weight), source)


def _between(low: Indices, weight: Floats, source: int) -> tuple[Indices, Floats]:
    """Pixel `low` and the next one, which counts `weight`; at the end only the last one counts."""
    if source == 1:
        return np.zeros_like(low), np.ones((len(low), 1))
    low, weight = np.minimum(low, source - 1), np.where(low >= source - 1, 0.0, weight)
    start = np.minimum(low, source - 2)
    pairs = np.stack([1.0 - weight, weight], 1)
    return start, np.where((start < low)[:, None], [[0.0, 1.0]], pairs)


def _shrunk_area(source: int, target: int) -> tuple[Indices, Floats]:
    """The pixels that an output pixel covers, those at its ends by the part that it covers.

    Source: OpenCV, modules/imgproc/src/resize.cpp, `computeResizeAreaTab`.
    """
    scale = 1.0 / (target / source)
    low = np.arange(target) * scale
    high = low + scale
    cell = np.minimum(scale, source - low)
    end = np.minimum(np.floor(high).astype(np.int64), source - 1)
    begin = np.minimum(np.ceil(low).astype(np.int64), end)
    before, after = begin - low, high - end
    first = begin - (before > _LEAST_COVERED)
    last = end + (after > _LEAST_COVERED)
    start, at = _window(first, last, source)
    weights = ((at >= begin[:, None]) & (at < end[:, None])).astype(np.float64)
    rows = np.arange(target)
    for chosen, column, part in (
        (before > _LEAST_COVERED, begin - 1 - start, before),
        (after > _LEAST_COVERED, end - start, np.minimum(after, 1.0)),
    ):
        weights[rows[chosen], column[chosen]] = np.minimum(part, cell)[chosen]
    return start, weights / cell[:, None]
