"""nnU-Net's way from an image to class ids, as its publication and its documentation describe it.

Isensee et al., Nature Methods 18, 2021; nnU-Net v2, documentation/explanation_normalization.md.
Bundles of nnU-Net's nets are compared with it, so it shares no code with the runtime. Test-time
mirroring is off, as with `nnUNetv2_predict --disable_tta`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import product

import cv2
import numpy as np
import numpy.typing as npt

from edgeunet.data.fit import Frame
from edgeunet.metrics import Mask

Floats = npt.NDArray[np.float32]
Infer = Callable[[Floats], Floats]
"""A window (1, C, h, w), normalised -> logits (1, classes, h, w)."""

SCHEMES = (
    "ZScoreNormalization",
    "RescaleTo01Normalization",
    "RGBTo01Normalization",
    "NoNormalization",
)
STEP = 0.5
"""From one window to the next, as a share of its side."""


def predict(
    infer: Infer, image: Frame, patch: tuple[int, int], *, scheme: str, masked: bool
) -> Mask:
    """Class ids (H, W) of an image (H, W, C) whose channels are the net's.

    Args:
        scheme: one of `SCHEMES`. masked: whether only pixels inside the content are normalised,
            plans.json's use_mask_for_norm.

    Example:
        >>> from edgeunet.exporting.origins.nnunet_predictor import predict
        >>> image = np.full((5, 6, 1), 255, np.uint8)
        >>> image[2] = 100
        >>> bright = lambda window: np.concatenate([0.5 - window, window - 0.5], 1)
        >>> ids = predict(bright, image, (4, 4), scheme="RGBTo01Normalization", masked=False)
        >>> ids[1:3].tolist()
        [[1, 1, 1, 1, 1, 1], [0, 0, 0, 0, 0, 0]]
    """
    content = _filled((image != 0).any(2))
    ids: Mask = np.zeros(image.shape[:2], np.uint8)
    rows, columns = (np.flatnonzero(content.any(axis)) for axis in (1, 0))
    box = np.s_[:, :]
    if len(rows):
        box = np.s_[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    planes = np.moveaxis(image[box], 2, 0).astype(np.float32)
    inside = content[box] if masked else None
    normalised = np.stack([normalise(plane, scheme, inside) for plane in planes])
    ids[box] = _sliding(infer, normalised, patch).argmax(0)
    return ids


def normalise(plane: Floats, scheme: str, inside: npt.NDArray[np.bool_] | None) -> Floats:
    """A plane (H, W) by one of `SCHEMES`; what is not `inside` becomes 0."""
    values = plane.astype(np.float64)
    if scheme == "RGBTo01Normalization":
        values = values / 255
    elif scheme == "RescaleTo01Normalization":
        values = values - values.min()
        values = values / max(values.max(), 1e-8)
    elif scheme == "ZScoreNormalization":
        measured = values if inside is None else values[inside]
        values = (values - measured.mean()) / max(measured.std(), 1e-8)
        if inside is not None:
            values[~inside] = 0
    return values.astype(np.float32)


def _filled(mask: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """A mask without holes: what is not reached from outside in steps along the axes."""
    padded = np.pad(mask.astype(np.uint8), 1)
    cv2.floodFill(padded, None, (0, 0), 2, flags=4)
    filled: npt.NDArray[np.bool_] = padded[1:-1, 1:-1] != 2
    return filled


def _sliding(infer: Infer, image: Floats, patch: tuple[int, int]) -> npt.NDArray[np.float64]:
    """Logits (classes, H, W) of an image (C, H, W), averaged over overlapping windows."""
    sides = image.shape[1:]
    lacking = [max(window - side, 0) for window, side in zip(patch, sides, strict=True)]
    before = [lack // 2 for lack in lacking]
    around = [(each, lack - each) for each, lack in zip(before, lacking, strict=True)]
    padded = np.pad(image, [(0, 0), *around])
    weights = np.multiply.outer(*(_gaussian(side) for side in patch))
    total: npt.NDArray[np.float64] | float = 0.0
    seen = np.zeros(padded.shape[1:])
    for top, left in product(*map(_starts, padded.shape[1:], patch)):
        place = np.s_[..., top : top + patch[0], left : left + patch[1]]
        logits = infer(np.ascontiguousarray(padded[place][None]))[0]
        added = np.zeros((len(logits), *seen.shape))
        added[place] = logits * weights
        total = added + total
        seen[place] += weights
    rows, columns = (slice(each, each + side) for each, side in zip(before, sides, strict=True))
    averaged: npt.NDArray[np.float64] = (total / seen)[:, rows, columns]
    return averaged


def _starts(side: int, window: int) -> list[int]:
    """Where windows begin: evenly spread, at most half a window apart."""
    steps = math.ceil((side - window) / (window * STEP))
    apart = (side - window) / steps if steps else 0
    return [round(apart * index) for index in range(steps + 1)]


def _gaussian(side: int) -> npt.NDArray[np.float64]:
    """Weights (side,), 1 in the middle, with a deviation of an eighth of the side."""
    places = np.arange(side) - side // 2
    weights: npt.NDArray[np.float64] = np.exp(-0.5 * (places / (side / 8)) ** 2)
    return weights
