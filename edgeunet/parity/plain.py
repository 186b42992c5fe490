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

from ..bundle.manifest import RGB, Filter, InputSpec
from ..data.fit import Frame
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
    planes = np.moveaxis(frame.astype(np.float64), -1, 0)
    if spec.channels == ("gray",) and len(planes) == 3:
        # ITU-R BT.601, rounded as in a grayscale image file.
        planes = np.rint(np.tensordot([0.299, 0.587, 0.114], planes, 1))[None]
    elif set(spec.channels) <= set(RGB):
        planes = planes[[RGB.index(name) for name in spec.channels]]
    size = frame.shape[:2]
    height, width = spec.fitted_size(*size)
    top, left = spec.offset(*size)
    black, white = spec.levels
    mean, std = (np.reshape(values, (-1, 1, 1)) for values in (spec.mean, spec.std))

    def normalised(values: Planes | float) -> Planes:
        scaled: Planes = ((values - black) / (white - black) - mean) / std
        return scaled

    image = np.zeros((len(spec.channels), spec.height, spec.width))
    if spec.fill is not None:
        image += normalised(spec.fill)
    image[:, top : top + height, left : left + width] = normalised(
        _resized(planes, (height, width), spec.filter)
    )
    return image[None].astype(np.float32)


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
    if how == "antialias":
        return _weighted(planes, *(map(_triangle, planes.shape[1:], size)))
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
