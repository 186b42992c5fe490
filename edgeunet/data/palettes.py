"""Colours of classes that people with any kind of colour vision tell apart."""

from __future__ import annotations

from functools import cache

import cv2
import numpy as np
import numpy.typing as npt

from .description import Palette

_BLACK = (0, 0, 0)
_DARKEST = 30.0
"""Lightness, of 100, below which a colour looks like the background's black."""
_STEPS = 9  # of each channel: 729 colours to choose from

# What red, green and blue are to who lacks the cones for long, middle and short waves; linear RGB.
# Machado, Oliveira and Fernandes, 2009, "A physiologically-based model for simulation of color
# vision deficiency", severity 1.
_VISIONS: npt.NDArray[np.float64] = np.array(
    [
        [[1, 0, 0], [0, 1, 0], [0, 0, 1]],
        [
            [0.152286, 1.052583, -0.204868],
            [0.114503, 0.786281, 0.099216],
            [-0.003882, -0.048116, 1.051998],
        ],
        [
            [0.367322, 0.860646, -0.227968],
            [0.280085, 0.672501, 0.047413],
            [-0.011820, 0.042940, 0.968881],
        ],
        [
            [1.255528, -0.076749, -0.178779],
            [-0.078411, 0.930809, 0.147602],
            [0.004733, 0.691367, 0.303900],
        ],
    ]
)


def default_palette(count: int) -> Palette:
    """Black for class 0, the background, and `safe_palette` for the others.

    Example:
        >>> from edgeunet.data.palettes import default_palette
        >>> default_palette(3)
        ((0, 0, 0), (255, 127, 0), (159, 0, 255))
    """
    return in_safe_colours((_BLACK,) + ((1, 1, 1),) * (count - 1))


def in_safe_colours(palette: Palette) -> Palette:
    """`safe_palette` for the classes of a palette; what is black, the background, stays black."""
    colours = iter(safe_palette(sum(colour != _BLACK for colour in palette)))
    return tuple(_BLACK if colour == _BLACK else next(colours) for colour in palette)


@cache
def safe_palette(count: int) -> Palette:
    """Colours that differ from each other, from black and from white, for all kinds of vision.

    Each is the one that is farthest from those before it, in CIELAB, for the vision that tells them
    apart the least. The nearest two of 11 colours differ by 22 for everybody, of CamVid's own by
    6.

    Example:
        >>> from edgeunet.data.palettes import safe_palette
        >>> len(set(safe_palette(255)))
        255
    """
    levels = np.linspace(0, 255, _STEPS).astype(np.uint8)
    candidates = np.stack(np.meshgrid(levels, levels, levels, indexing="ij"), -1).reshape(-1, 3)
    seen = _as_seen(candidates)
    light = seen[0, :, 0] >= _DARKEST
    candidates, seen = candidates[light], seen[:, light]
    ends = _as_seen(np.array([_BLACK, (255, 255, 255)], np.uint8))
    nearest = np.minimum.reduce([_distance(seen, ends[:, [end]]) for end in (0, 1)])
    chosen = []
    for _ in range(count):
        best = int(nearest.argmax())
        chosen.append(best)
        nearest = np.minimum(nearest, _distance(seen, seen[:, [best]]))
    return tuple((int(red), int(green), int(blue)) for red, green, blue in candidates[chosen])


def _as_seen(colours: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
    """RGB (N, 3) -> CIELAB (visions, N, 3)."""
    part = colours / 255
    linear = np.where(part <= 0.04045, part / 12.92, ((part + 0.055) / 1.055) ** 2.4)
    mixed = np.clip(linear @ _VISIONS.transpose(0, 2, 1), 0, 1)
    part = np.where(mixed <= 0.0031308, mixed * 12.92, 1.055 * mixed ** (1 / 2.4) - 0.055)
    seen: npt.NDArray[np.float32] = cv2.cvtColor(part.astype(np.float32), cv2.COLOR_RGB2LAB)
    return seen


def _distance(
    some: npt.NDArray[np.float32], others: npt.NDArray[np.float32]
) -> npt.NDArray[np.float32]:
    """Of each pair of colours, for the vision to which they are nearest: (N,)."""
    distance: npt.NDArray[np.float32] = np.linalg.norm(some - others, axis=2).min(0)
    return distance
