"""From a frame to the net's input, and from logits to class ids, in plain NumPy.

It is written to be read, not to be fast, and shares no code with the runtime, so that `edgeunet
parity` can test the runtime against it where there is no PyTorch. `edgeunet.models.reference` is
the same in PyTorch.
"""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image as Pillow

from ..bundle.manifest import BYTE_FILTERS, RGB, Filter, InputSpec
from ..bundle.steps import ImageStatistics
from ..data.fit import Frame
from ..data.windows import content
from ..metrics import Mask

Planes = npt.NDArray[np.float64]
Images = npt.NDArray[np.float32]


def to_input(frame: Frame, spec: InputSpec) -> Images:
    """Frame (H, W, C), see `InputSpec.frame_channels` -> net input (1, C, height, width).

    Example:
        >>> import numpy as np
        >>> from edgeunet.bundle.manifest import InputSpec
        >>> from edgeunet.parity.plain import to_input
        >>> spec = InputSpec(1, 2, channels=("gray",), mean=(0.0,), std=(1.0,))
        >>> to_input(np.array([[[0], [255]]], np.uint8), spec).tolist()
        [[[[0.0, 1.0]]]]
    """
    if spec.window is not None:
        whole = to_whole(frame, spec)
        top, left = (
            (length - side) // 2
            for length, side in zip(whole.shape[1:], (spec.height, spec.width), strict=True)
        )
        return whole[None, :, top : top + spec.height, left : left + spec.width]
    planes = _channels(frame, spec)
    size = spec.fitted_size(*frame.shape[:2])
    top, left = spec.offset(*frame.shape[:2])
    if spec.filter in BYTE_FILTERS:
        inside = _normalised(_resized(planes, size, spec.filter), planes, spec)
    else:
        inside = _resized(_normalised(planes, planes, spec), size, spec.filter)
    image = _empty(spec, (spec.height, spec.width))
    image[:, top : top + size[0], left : left + size[1]] = inside
    return image[None].astype(np.float32)


def to_whole(frame: Frame, spec: InputSpec) -> Images:
    """What windows are cut from: the frame's `content` (C, H, W) at its own size, normalised.

    It is padded to at least the size of a window.
    """
    planes = _channels(frame[content(frame, spec)], spec)
    height, width = planes.shape[1:]
    top, left = max(spec.height - height, 0) // 2, max(spec.width - width, 0) // 2
    whole = _empty(spec, (max(spec.height, height), max(spec.width, width)))
    whole[:, top : top + height, left : left + width] = _normalised(planes, planes, spec)
    return whole.astype(np.float32)


def _channels(frame: Frame, spec: InputSpec) -> Planes:
    """Raw values of the net's channels, (C, H, W)."""
    planes = np.moveaxis(frame.astype(np.float64), -1, 0)
    if spec.channels == ("gray",) and len(planes) == 3:
        # ITU-R BT.601, rounded as in a grayscale image file.
        return np.asarray(np.rint(np.tensordot([0.299, 0.587, 0.114], planes, 1))[None])
    if set(spec.channels) <= set(RGB):
        return planes[[RGB.index(name) for name in spec.channels]]
    return planes


def _normalised(values: Planes, measured: Planes, spec: InputSpec) -> Planes:
    """Raw values (C, h, w) of an image whose own size shows `measured` (C, H, W)."""
    if spec.statistics is None:
        black, white = spec.levels
        return _affine((values - black) / (white - black), spec)
    pixels = spec.statistics.pixels
    kept: npt.NDArray[np.bool_] = np.asarray((measured != 0) | (pixels == "all"))
    if pixels == "content":
        kept = np.broadcast_to(kept.any(0), kept.shape)
    result, everything = values.copy(), slice(None)
    for group in range(len(values)) if spec.statistics.per_channel else [everything]:
        seen = measured[group][kept[group]]
        low, spread = _spread(seen, spec.statistics) if len(seen) else (0.0, 0.0)
        result[group] = (values[group] - low) / spec.statistics.divisor(spread)
    return _affine(result if pixels == "all" else np.where(kept, result, 0), spec)


def _spread(values: Planes, statistics: ImageStatistics) -> tuple[float, float]:
    """What is subtracted, and the deviation or the range."""
    if statistics.measure == "zscore":
        return float(values.mean()), float(values.std())
    low, high = np.percentile(values, statistics.percentiles)
    return float(low), float(high - low)


def _affine(values: Planes, spec: InputSpec) -> Planes:
    mean, std = (np.reshape(each, (-1, 1, 1)) for each in (spec.mean, spec.std))
    result: Planes = (values - mean) / std
    return result


def _empty(spec: InputSpec, size: tuple[int, int]) -> Planes:
    """The net's values (C, *size) where there is no frame."""
    empty = np.zeros((len(spec.channels), *size))
    if spec.fill is None:
        return empty
    return _normalised(empty + spec.fill, empty, spec)


def to_mask(
    logits: Images,
    presence: Images | None,
    spec: InputSpec,
    size: tuple[int, int],
    *,
    thresholds: Sequence[float] | None,
) -> Mask:
    """Logits (1, C, h, w), presence (1, C) -> class ids at `size`, without the closed classes."""
    fitted, offset = spec.fitted_size(*size), spec.offset(*size)
    rows, columns = (
        slice(first * side // whole, (first + part) * side // whole)
        for first, part, side, whole in zip(
            offset, fitted, logits.shape[2:], (spec.height, spec.width), strict=True
        )
    )
    planes = _bilinear(logits[0, :, rows, columns].astype(np.float64), size)
    if presence is not None and thresholds is not None:
        closed = ~(presence[0] >= np.asarray(thresholds))  # NaN closes too, as in the runtime
        if closed.all():
            closed[0] = False
        planes[closed] = -np.inf
    mask: Mask = planes.argmax(0).astype(np.uint8)
    return mask


def _resized(planes: Planes, size: tuple[int, int], how: Filter) -> Planes:
    """Planes (C, H, W) -> (C, *size), by the library that defines the filter, or its formula."""
    if how == "bilinear":
        return _bilinear(planes, size)
    if how in ("antialias", "torchvision"):
        antialiased = _weighted(planes, *(map(_triangle, planes.shape[1:], size)))
        return antialiased if how == "antialias" else np.rint(antialiased)
    columns_and_rows = (size[1], size[0])
    if how == "area":
        area = [
            cv2.resize(plane.astype(np.float32), columns_and_rows, interpolation=cv2.INTER_AREA)
            for plane in planes
        ]
        return np.stack(area).astype(np.float64)
    kernel = Pillow.Resampling.BILINEAR if how == "pillow" else Pillow.Resampling.BICUBIC
    pictures = [Pillow.fromarray(plane.astype(np.uint8)) for plane in planes]
    return np.stack(
        [np.asarray(each.resize(columns_and_rows, kernel), np.float64) for each in pictures]
    )


def _bilinear(planes: Planes, size: tuple[int, int]) -> Planes:
    """With pixel centres at half numbers, as PyTorch's `align_corners=False`."""
    return _weighted(planes, *(map(_neighbours, planes.shape[1:], size)))


def _weighted(planes: Planes, rows: Planes, columns: Planes) -> Planes:
    """Each output row and column as a weighted sum of those of the input."""
    resized: Planes = rows @ planes @ columns.T
    return resized


def _neighbours(side: int, wanted: int) -> Planes:
    """Weights (wanted, side) of the two nearest pixels."""
    place = np.clip((np.arange(wanted) + 0.5) * side / wanted - 0.5, 0, side - 1)
    weights: Planes = np.maximum(0, 1 - np.abs(place[:, None] - np.arange(side)))
    return weights


def _triangle(side: int, wanted: int) -> Planes:
    """Weights (wanted, side) of a triangle as wide as the scale, if that shrinks."""
    scale = max(side / wanted, 1)
    place = (np.arange(wanted) + 0.5) * side / wanted - 0.5
    weights = np.maximum(0, 1 - np.abs(place[:, None] - np.arange(side)) / scale)
    summed: Planes = weights / weights.sum(1, keepdims=True)
    return summed
