"""A phase-contrast microscope that renders a colony, with exact masks."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from ...metrics import Mask
from .colony import TILE, Cells, Floats, nuclei_outlines, outlines

Image = npt.NDArray[np.uint8]
Instances = npt.NDArray[np.uint16]
Plane = npt.NDArray[np.float32]


@dataclass(frozen=True)
class CellFrame:
    """One image with its truth.

    image: (H, W, 3) uint8 RGB. mask: (H, W) uint8, ids of `CLASSES`. instances: (H, W) uint16, 0
    without a cell, else a number that the cell keeps from frame to frame.
    """

    image: Image
    mask: Mask
    instances: Instances


def _fill(plane: Instances, shapes: Floats) -> None:
    """Fill shape n with the value n + 1, over earlier shapes, at 1/16 pixel precision."""
    for slot, points in enumerate(np.round(shapes * 16).astype(np.int32), start=1):
        cv2.fillPoly(plane, [points], slot, shift=4)


@dataclass(frozen=True)
class Optics:
    """Properties of microscope and camera. Light is relative to a view without cells."""

    level: float  # grey value of light 1
    contrast: float  # light per phase
    halo: float  # share of the blurred phase that returns as light
    spread: float  # sigma of that blur, pixels
    focus: float  # sigma of the point spread, pixels
    lighting: float  # amplitude of uneven illumination
    shot: float  # standard deviation of shot noise at light 1, grey values
    read: float  # standard deviation of read noise, grey values
    dirt: float  # specks per pixel
    tint: tuple[float, float, float]  # RGB gains
    drift: float  # phase of the slow drift

    @classmethod
    def draw(cls, rng: np.random.Generator, *, variety: float) -> Optics:
        """Draw optics: variety 0 gives the middle of each range, 1 the whole range."""

        def between(low: float, high: float) -> float:
            return (low + high) / 2 + variety * (high - low) * (rng.random() - 0.5)

        return cls(
            level=between(85, 145),
            contrast=between(0.3, 0.7),
            halo=between(0.7, 1.4),
            spread=between(3, 7),
            focus=between(0.5, 1.7),
            lighting=between(0.02, 0.25),
            shot=between(1.0, 5.0),
            read=between(0.5, 3.0),
            dirt=between(0, 5e-4),
            tint=(between(0.94, 1.02), between(0.97, 1.03), between(0.96, 1.06)),
            drift=rng.uniform(0, 1000),
        )


class Microscope:
    """Renders cells. Everything that is constant from frame to frame is made once."""

    def __init__(
        self, rng: np.random.Generator, size: tuple[int, int], *, optics: Optics, travel: int
    ) -> None:
        height, width = size
        self._rng, self._optics = rng, optics
        self._y, self._x = np.mgrid[:height, :width].astype(np.float32)
        u, v = self._x / width - 0.5, self._y / height - 0.5
        turn = rng.uniform(0, 2 * np.pi)
        self._slope, self._vignette = _plane(np.cos(turn) * u + np.sin(turn) * v), u * u + v * v
        fine, coarse = (_texture(rng, (TILE, TILE), sigma) for sigma in (0.9, 2.2))
        nucleoli = np.clip(2.2 * (coarse - 0.9), 0, 1.5)
        self._tile = np.dstack([0.7 * fine + 0.5 * coarse, nucleoli])
        self._dish = self._bottom(height, width + travel)

    def _bottom(self, height: int, width: int) -> Plane:
        """Light (H, W) of the dish's bottom: mottle and specks, which are background."""
        rng, light = self._rng, 0.008 * _texture(self._rng, (height, width), 4.0)
        for _ in range(rng.poisson(self._optics.dirt * height * width)):
            x, y, size = rng.uniform(0, width), rng.uniform(0, height), rng.uniform(0.6, 3.2)
            left, top = max(0, int(x) - 12), max(0, int(y) - 12)
            window = light[top : top + 25, left : left + 25]
            rows, columns = np.ogrid[top : top + window.shape[0], left : left + window.shape[1]]
            square = ((columns - x) ** 2 + (rows - y) ** 2) / size**2
            # Dark or bright with a ring, like small phase objects.
            window += rng.uniform(-0.5, 0.6) * (1 - square / 2) * np.exp(-square / 2)
        return light

    def expose(self, cells: Cells, *, frame: int, left: int) -> CellFrame:
        """One image of the view that starts at x = `left`."""
        cells = cells.copy()
        cells["position"][:, 0] -= left
        slots, nuclei = (np.zeros(self._x.shape, dtype=np.uint16) for _ in range(2))
        _fill(slots, outlines(cells))  # (H, W): 1 + index of the cell that owns the pixel
        _fill(nuclei, nuclei_outlines(cells, 1))
        _fill(nuclei, nuclei_outlines(cells, -1))
        light = self._light(cells, slots, (nuclei == slots) & (slots > 0))
        image = self._develop(light + self._dish[:, left : left + slots.shape[1]], frame)
        ids = np.append(0, cells["id"]).astype(np.uint16)
        classes = np.append(0, 1 + (cells["glow"] >= 0.5)).astype(np.uint8)
        return CellFrame(image=image, mask=classes[slots], instances=ids[slots])

    def _light(self, cells: Cells, slots: Instances, nuclei: npt.NDArray[np.bool_]) -> Plane:
        """Light (H, W) behind the cells."""

        def per_pixel(values: Floats, background: float = 0.0) -> Plane:
            plane: Plane = np.append(background, values).astype(np.float32)[slots]
            return plane

        inside = (slots > 0).astype(np.uint8)
        inside[:, 1:] &= slots[:, 1:] == slots[:, :-1]
        inside[1:] &= slots[1:] == slots[:-1]
        # Distance to the cell's own border in fifths of its radius; huge if none is in view.
        depth = _plane(cv2.distanceTransform(inside, cv2.DIST_L2, 3))
        depth = np.minimum(depth / per_pixel(0.2 * cells["radius"], 1.0), 10)
        shape = depth / (depth + 1)  # 0 at the border .. ~0.8 in the middle
        rim = 2 * depth / (depth * depth + 1)  # highest near the border
        grain = cells["grain"] - cells["position"]
        x, y = self._x + per_pixel(grain[:, 0]), self._y + per_pixel(grain[:, 1])
        texture = cv2.remap(self._tile, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_WRAP)
        glow = per_pixel(cells["glow"])
        # The nucleus is clearer than the cytoplasm except for its nucleoli. Chromosomes are dark.
        cytoplasm = (0.33 - 0.25 * glow) * texture[..., 0]
        inner = np.where(nuclei, (1 - glow) * (texture[..., 1] - 0.3), cytoplasm)
        phase = per_pixel(cells["thickness"] * (1 + 1.2 * cells["glow"])) * shape
        # Phase contrast to first order: thick parts are dark. Their low frequencies pass beside the
        # phase ring and form a bright halo. A rounded cell is so thick that it turns bright.
        halo = self._optics.halo * _wide_blur(phase, self._optics.spread)
        bright = glow * (phase + 0.3 * shape + 0.8 * rim - 1.2 * (nuclei * shape))
        light: Plane = 1 + self._optics.contrast * (halo + bright - phase - shape * inner)
        return light

    def _develop(self, light: Plane, frame: int) -> Image:
        """Image (H, W, 3) of the light, with slowly drifting lamp and focus, and noise."""
        optics, time = self._optics, self._optics.drift + frame
        tilt, fall, lamp = (np.float32(np.sin(time / period)) for period in (170, 230, 110))
        lit = (1 + 0.3 * tilt) * self._slope - (1 + 0.3 * fall) * self._vignette
        light = light * (1 + 0.02 * lamp + np.float32(optics.lighting) * lit)
        light = _blur(light, optics.focus * (1 + 0.25 * float(fall)))
        deviation = np.sqrt(np.maximum(light, 0) * optics.shot**2 + optics.read**2)
        noise = self._rng.standard_normal(light.shape, dtype=np.float32)
        grey = np.clip(light * optics.level + deviation * noise, 0, 255).astype(np.uint8)
        tinted = np.minimum(np.arange(256)[:, None] * np.array(optics.tint) + 0.5, 255)
        table = tinted.astype(np.uint8)[:, None]  # (256, 1, 3)
        return np.asarray(cv2.LUT(cv2.cvtColor(grey, cv2.COLOR_GRAY2RGB), table), dtype=np.uint8)


def _texture(rng: np.random.Generator, size: tuple[int, int], sigma: float) -> Plane:
    """Smooth periodic noise (H, W) with mean 0 and standard deviation 1."""
    pad = int(4 * sigma) + 1
    noise = np.pad(rng.standard_normal(size, dtype=np.float32), pad, mode="wrap")
    smooth = _blur(noise, sigma)[pad:-pad, pad:-pad]
    return _plane(2 * np.sqrt(np.pi) * sigma * smooth)


def _blur(plane: Plane, sigma: float) -> Plane:
    return _plane(cv2.GaussianBlur(plane, (0, 0), sigma))


def _wide_blur(plane: Plane, sigma: float) -> Plane:
    """Gaussian blur at a quarter of the resolution, for a sixteenth of the cost."""
    height, width = plane.shape
    small = cv2.resize(plane, (-(-width // 4), -(-height // 4)), interpolation=cv2.INTER_AREA)
    small = _blur(_plane(small), sigma / 4)
    return _plane(cv2.resize(small, (width, height), interpolation=cv2.INTER_LINEAR))


def _plane(array: npt.ArrayLike) -> Plane:
    """Cast to FP32 for the type checker: OpenCV's stubs do not say the element type."""
    return np.asarray(array, dtype=np.float32)
