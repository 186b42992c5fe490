"""JPEG of a batch, and back, without the file: only what compression loses.

It does what libjpeg does with the default 4:2:0: colours at half the size, a cosine transform of
blocks of 8x8 pixels, rounded by the tables of a quality. Pixels differ by a level where a rounding
goes the other way. Source: ITU-T T.81, and libjpeg's jcsample.c, jdsample.c and jcparam.c.
"""

from __future__ import annotations

from functools import cache

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional

# ITU-T T.81, tables K.1 and K.2.
_LUMINANCE = """
16 11 10 16 24 40 51 61      12 12 14 19 26 58 60 55      14 13 16 24 40 57 69 56
14 17 22 29 51 87 80 62      18 22 37 56 68 109 103 77    24 35 55 64 81 104 113 92
49 64 78 87 103 121 120 101  72 92 95 98 112 100 103 99
"""
_CHROMINANCE = """
17 18 24 47 99 99 99 99  18 21 26 66 99 99 99 99  24 26 56 99 99 99 99 99
47 66 99 99 99 99 99 99  99 99 99 99 99 99 99 99  99 99 99 99 99 99 99 99
99 99 99 99 99 99 99 99  99 99 99 99 99 99 99 99
"""
_TABLES = np.array([table.split() for table in (_LUMINANCE, _CHROMINANCE)], np.int64)
_BLOCK = 8


def quantization(quality: int) -> npt.NDArray[np.float32]:
    """Steps (2, 8, 8) of luminance and chrominance at a quality of 1 to 100."""
    scale = 5000 // quality if quality < 50 else 200 - 2 * quality
    steps = np.clip((_TABLES * scale + 50) // 100, 1, 255)
    return steps.reshape(2, _BLOCK, _BLOCK).astype(np.float32)


def compressed(pictures: Tensor, steps: Tensor) -> Tensor:
    """Pictures (N, H, W, 1 or 3), gray or RGB, whole numbers of 0 to 255, after JPEG.

    Args:
        steps: (N, 2, 8, 8) of `quantization`.
    """
    if pictures.shape[-1] == 1:
        return _transformed(pictures[..., 0], steps[:, 0])[..., None]
    red, green, blue = pictures.unbind(-1)
    luma = _nearest(0.299 * red + 0.587 * green + 0.114 * blue)
    blueness = (-0.168735892 * red - 0.331264108 * green + 0.5 * blue + 127.5).ceil()
    redness = (0.5 * red - 0.418687589 * green - 0.081312411 * blue + 127.5).ceil()
    luma = _transformed(luma, steps[:, 0])
    size = luma.shape[1], luma.shape[2]
    cb, cr = (
        _enlarged(_transformed(_halved(plane.clamp(0, 255)), steps[:, 1], size), size) - 128
        for plane in (blueness, redness)
    )
    rgb = [
        luma + _nearest(1.402 * cr),
        luma + _nearest(-0.344136286 * cb - 0.714136286 * cr),
        luma + _nearest(1.772 * cb),
    ]
    return torch.stack(rgb, -1).clamp_(0, 255)


@cache
def _cosines(device: torch.device) -> Tensor:
    """The transform (8, 8) times the root of 8: frequencies by pixels."""
    frequency, pixel = np.ogrid[:_BLOCK, :_BLOCK]
    waves = np.cos((2 * pixel + 1) * frequency * np.pi / (2 * _BLOCK)) * np.sqrt(2)
    waves[0] = 1
    return torch.from_numpy(waves.astype(np.float32)).to(device)


def _transformed(plane: Tensor, steps: Tensor, size: tuple[int, int] | None = None) -> Tensor:
    """Planes (N, h, w), transformed block by block, rounded, and transformed back.

    Both transforms round after each axis as libjpeg's jfdctislow.c and jidctint.c do: to quarters,
    and coefficients to eighths.
    """
    _, height, width = plane.shape
    blocks = _padded(plane - 128, -height % _BLOCK, -width % _BLOCK)
    across, down = blocks.shape[2] // _BLOCK, blocks.shape[1] // _BLOCK
    blocks = blocks.view(-1, down, _BLOCK, across, _BLOCK).transpose(2, 3)
    waves, steps = _cosines(plane.device), steps[:, None, None]
    quarters = _nearest(blocks @ (4 * waves.T))
    eighths = _nearest(waves @ quarters / 4)
    levels = (eighths.abs() / (8 * steps) + 0.5).floor().copysign(eighths) * steps
    quarters = _nearest(4 * waves.T @ levels)
    back = _nearest(quarters @ waves / 32).transpose(2, 3).flatten(3).flatten(1, 2)
    rows, columns = (height, width) if size is None else (-(-side // 2) for side in size)
    return (back + 128).clamp_(0, 255)[:, :rows, :columns]


def _nearest(values: Tensor) -> Tensor:
    return (values + 0.5).floor_()


def _padded(plane: Tensor, rows: int, columns: int) -> Tensor:
    """Planes with their last row and column repeated."""
    return functional.pad(plane[:, None], (0, columns, 0, rows), mode="replicate")[:, 0]


def _halved(plane: Tensor) -> Tensor:
    """The mean of 2x2 pixels. The sums are rounded down after 1 and 2 are added in turn."""
    plane = _padded(plane, plane.shape[1] % 2, -plane.shape[2] % (2 * _BLOCK))
    _, height, width = plane.shape
    total = plane.reshape(-1, height // 2, 2, width // 2, 2).sum((2, 4))
    bias = torch.arange(width // 2, device=plane.device) % 2 + 1
    return ((total + bias) / 4).floor_()


def _enlarged(plane: Tensor, size: tuple[int, int]) -> Tensor:
    """Twice as large: three quarters of the nearest pixel and one of the next, on each axis."""
    around = functional.pad(plane[:, None], (1, 1, 1, 1), mode="replicate")[:, 0]
    middle = 3 * around[:, 1:-1]
    rows = torch.stack([middle + around[:, :-2], middle + around[:, 2:]], 2).flatten(1, 2)
    middle = 3 * rows[..., 1:-1]
    before, after = middle + rows[..., :-2] + 8, middle + rows[..., 2:] + 7
    found = (torch.stack([before, after], 3) / 16).floor().flatten(2)
    return found[:, : size[0], : size[1]]
