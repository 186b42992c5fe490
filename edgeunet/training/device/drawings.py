"""What was drawn for the crops of a training step, as tensors that travel to the device."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import cv2
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ..crops import Drawn
from ..photometry import is_showable
from .jpeg import quantization


class Rows(NamedTuple):
    """What some crops of a batch get. which: (k,) indices of them. values: (k, …), FP32."""

    which: Tensor
    values: Tensor


class Drawings(NamedTuple):
    """Drawn crops of a batch of B.

    image: (B,) indices. matrix, bend: of `Geometry`, (B, 2, 3) FP64 and (B, 2, 3, 3) or (0, …).
    exposure: (B, 2 + C), exponent, contrast and factors of `Light`. shadow: (k, 4), the fields of
    `Shadow`. blur: (k, n), kernels. noise: (k, H, W, C). jpeg: (k, 2, 8, 8), see `quantization`.
    """

    image: Tensor
    matrix: Tensor
    bend: Tensor
    exposure: Tensor
    shadow: Rows
    blur: Rows
    noise: Rows
    jpeg: Rows

    def to(self, device: torch.device) -> Drawings:
        """The same on a device; from pinned memory without waiting."""
        moved = [
            Rows(*(each.to(device, non_blocking=True) for each in field))
            if isinstance(field, Rows)
            else field.to(device, non_blocking=True)
            for field in self
        ]
        return Drawings(*moved)  # type: ignore[arg-type]


def pack(drawn: Sequence[Drawn], depth: npt.DTypeLike) -> Drawings:
    """Put drawn crops together.

    Args:
        depth: of the images.
    """
    depth = np.dtype(depth)
    lights = [each.light for each in drawn]
    bends = [each.geometry.bend for each in drawn if each.geometry.bend is not None]
    exposures = [[each.exponent, each.contrast, *each.factors] for each in lights]
    shadows = [each.shadow for each in lights]
    sigmas = [each.sigma for each in lights]
    return Drawings(
        torch.tensor([each.image for each in drawn]),
        torch.from_numpy(np.stack([each.geometry.matrix for each in drawn])),
        torch.from_numpy(np.stack(bends) if bends else np.empty((0, 2, 3, 3), np.float32)),
        torch.tensor(exposures, dtype=torch.float32),
        _rows([None if s is None else [s.darkest, s.angle, s.offset, s.softness] for s in shadows]),
        _rows(_kernels(sigmas, depth)),
        _rows([each.noise for each in lights]),
        _rows(
            [
                None
                if each.quality is None or not is_showable(depth, len(each.factors))
                else quantization(each.quality)
                for each in lights
            ]
        ),
    )


def _rows(values: Sequence[npt.ArrayLike | None]) -> Rows:
    which = [index for index, value in enumerate(values) if value is not None]
    chosen = [np.asarray(values[index], np.float32) for index in which]
    return Rows(
        torch.tensor(which, dtype=torch.int64),
        torch.from_numpy(np.stack(chosen)) if chosen else torch.empty(0),
    )


def _kernels(
    sigmas: Sequence[float | None], depth: np.dtype[np.generic]
) -> list[npt.NDArray[np.float64] | None]:
    """Gaussian kernels of one length, each as long as in cv2.GaussianBlur and 0 beyond that."""
    kernels = [None if sigma is None else _kernel(sigma, depth) for sigma in sigmas]
    longest = max((len(kernel) for kernel in kernels if kernel is not None), default=0)
    return [
        None if kernel is None else np.pad(kernel, (longest - len(kernel)) // 2)
        for kernel in kernels
    ]


def _kernel(sigma: float, depth: np.dtype[np.generic]) -> npt.NDArray[np.float64]:
    """The kernel of cv2.GaussianBlur for 8 bit, of whole 256ths, and for floats.

    Source: OpenCV, modules/imgproc/src/smooth.dispatch.cpp: what a weight loses to rounding, the
    next one gets, and the middle one gets the rest.
    """
    reach = 3 if depth == np.uint8 else 4  # in sigmas
    exact = cv2.getGaussianKernel(round(2 * reach * sigma + 1) | 1, sigma, cv2.CV_64F)[:, 0]
    if depth != np.uint8:
        return np.asarray(exact, np.float64)
    half, lost = [], 0.0
    for weight in exact[: len(exact) // 2] * 256:
        half.append(round(weight + lost))
        lost += weight - half[-1]
    return np.array([*half, 256 - 2 * sum(half), *half[::-1]]) / 256
