"""Random light, optics and compression for training crops: how cameras vary."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

import cv2
import numpy as np
import numpy.typing as npt

from ..bundle.manifest import BYTE_LEVELS, Levels
from ..data.fit import Frame
from ..data.images import decode

Floats = npt.NDArray[np.float32]

_SHOWABLE = (1, 3)  # channels of a picture that JPEG compresses


@dataclass(frozen=True)
class Photometry:
    """Ranges of the random changes of a crop's values; its geometry stays.

    Every crop gets another gamma, brightness, tint and contrast. These multiply, so that dark
    frames keep their content:

    gamma: largest natural logarithm of the exponent. brightness, tint: the same of a factor for all
    channels, and for each. contrast: largest relative change of the distance from the mean.

    `often` of the crops, 0..1, get each of the others, independently:

    shadow: darkest factor on one side of a random soft line; 1 for none. blur: largest sigma,
    pixels. noise: largest standard deviation, as a share of black to white. jpeg: lowest quality,
    1..100; 0 for none. Only 8-bit crops of one or three channels are compressed.

    Example:
        >>> import numpy as np
        >>> from edgeunet.training.photometry import PHOTOMETRY
        >>> crop = np.full((64, 64, 3), 100, np.uint8)
        >>> PHOTOMETRY["camera"].apply(crop, np.random.default_rng(0)).shape
        (64, 64, 3)
    """

    gamma: float = 0.0
    brightness: float = 0.0
    tint: float = 0.0
    contrast: float = 0.0
    often: float = 0.3
    shadow: float = 1.0
    blur: float = 0.0
    noise: float = 0.0
    jpeg: int = 0

    def draw(
        self, shape: tuple[int, ...], rng: np.random.Generator, levels: Levels = BYTE_LEVELS
    ) -> Light:
        """Draw the changes of a crop (H, W, C).

        Args:
            levels: values that mean black and white.
        """
        shadow = sigma = noise = quality = None
        # In the order in which they happen: the scene, the lens, the sensor, the file.
        if self.shadow < 1 and rng.random() < self.often:
            shadow = Shadow.draw(rng.uniform(self.shadow, 1), rng)
        if self.blur and rng.random() < self.often:
            sigma = max(1e-3, rng.uniform(0, self.blur))
        exponent = np.exp(rng.uniform(-self.gamma, self.gamma))
        factor = np.exp(rng.uniform(-self.brightness, self.brightness))
        tint = np.exp(rng.uniform(-self.tint, self.tint, shape[2]))
        contrast = 1.0 + rng.uniform(-self.contrast, self.contrast)
        if self.noise and rng.random() < self.often:
            deviation = rng.uniform(0, self.noise) * (levels[1] - levels[0])
            noise = rng.standard_normal(shape, np.float32) * np.float32(deviation)
        if self.jpeg and rng.random() < self.often:
            quality = int(rng.integers(self.jpeg, 101))
        return Light(shadow, sigma, exponent, factor * tint, contrast, noise, quality)

    def apply(self, crop: Frame, rng: np.random.Generator, levels: Levels = BYTE_LEVELS) -> Frame:
        """(H, W, C) -> the same in another light, as of `Light.apply`."""
        return self.draw(crop.shape, rng, levels).apply(crop, levels)


@dataclass(frozen=True)
class Shadow:
    """A soft line beyond which it is darker.

    darkest: factor there. angle: of the line, radians. offset: from the centre, and softness: width
    of the transition, both in half sides.
    """

    darkest: float
    angle: float
    offset: float
    softness: float

    @classmethod
    def draw(cls, darkest: float, rng: np.random.Generator) -> Shadow:
        """Draw the line."""
        angle, offset = rng.uniform(0, 2 * np.pi), rng.uniform(-0.7, 0.7)
        return cls(darkest, angle, offset, rng.uniform(0.02, 0.5))

    def factors(self, size: tuple[int, ...]) -> Floats:
        """Factors (H, W, 1), `darkest` on one side of the line and 1 on the other."""
        rows, columns = np.ogrid[-1 : 1 : size[0] * 1j, -1 : 1 : size[1] * 1j]
        distance = rows * np.sin(self.angle) + columns * np.cos(self.angle) - self.offset
        lit = np.clip(distance / self.softness + 0.5, 0, 1)
        return np.asarray(self.darkest + (1 - self.darkest) * lit, np.float32)[..., None]


@dataclass(frozen=True, eq=False)
class Light:
    """What `Photometry` drew for a crop. None: no such change.

    sigma: of the blur, pixels. exponent: gamma. factors: (C,), brightness and tint. contrast:
    factor of the distance from the mean. noise: (H, W, C), raw values. quality: of JPEG.
    """

    shadow: Shadow | None
    sigma: float | None
    exponent: float
    factors: npt.NDArray[np.float64]
    contrast: float
    noise: Floats | None
    quality: int | None

    def apply(self, crop: Frame, levels: Levels = BYTE_LEVELS) -> Frame:
        """(H, W, C) -> the same in this light.

        8 bit stays 8 bit; other depths become FP32, within what the depth holds.

        Args:
            levels: values that mean black and white.
        """
        depth = crop.dtype
        if depth != np.uint8:
            crop = crop.astype(np.float32)
        if self.shadow is not None:
            shade = self.shadow.factors(crop.shape[:2])
            crop = _like(crop, levels[0] + (crop.astype(np.float32) - levels[0]) * shade)
        if self.sigma is not None:
            crop = _blurred(crop, self.sigma)
        crop = self._exposed(crop, levels)
        if self.noise is not None:
            crop = _like(crop, crop + self.noise)
        if self.quality is not None and is_showable(depth, crop.shape[2]):
            crop = _compressed(crop, self.quality)
        if depth.kind == "f" or depth == np.uint8:
            return crop
        return np.clip(crop, np.iinfo(depth).min, np.iinfo(depth).max).astype(np.float32)

    def _exposed(self, crop: Frame, levels: Levels) -> Frame:
        """Another gamma, brightness, tint and contrast; by a table if the crop has 8 bit."""
        black, white = levels
        eight_bit = crop.dtype == np.uint8
        values = np.arange(256.0)[:, None] if eight_bit else crop
        light = (values - black) / (white - black)
        if self.exponent != 1:  # the sign stays: values may lie below black
            light = np.sign(light) * np.abs(light) ** self.exponent
        light = light * self.factors
        channels = range(crop.shape[2])
        # Of the picture, not of the table: each value as often as it occurs.
        mean = (
            np.mean([light[:, c] @ _shares(crop[..., c]) for c in channels])
            if eight_bit
            else light.mean()
        )
        light = _like(crop, ((light - mean) * self.contrast + mean) * (white - black) + black)
        if not eight_bit:
            return light
        return np.stack([light[crop[..., c], c] for c in channels], axis=-1)


PHOTOMETRY: Mapping[str, Photometry] = MappingProxyType(
    {
        "mild": Photometry(brightness=0.3, tint=0.06, contrast=0.3),
        "camera": Photometry(
            gamma=0.5,
            brightness=0.4,
            tint=0.15,
            contrast=0.3,
            shadow=0.4,
            blur=1.2,
            noise=0.04,
            jpeg=30,
        ),
    }
)
"""Ranges by name: for one camera in steady light, and for cameras and weather as they come."""


def is_showable(depth: np.dtype[np.generic], channels: int) -> bool:
    """Whether JPEG takes pictures of this depth and so many channels."""
    return depth == np.uint8 and channels in _SHOWABLE


def _shares(channel: npt.NDArray[np.uint8]) -> npt.NDArray[np.float64]:
    """Share (256,) of the pixels that have each value."""
    return np.bincount(channel.ravel(), minlength=256) / channel.size


def _blurred(crop: Frame, sigma: float) -> Frame:
    out = cv2.GaussianBlur(crop, (0, 0), sigma, borderType=cv2.BORDER_REFLECT_101)
    return np.asarray(out).reshape(crop.shape)  # OpenCV drops the axis of a single channel


def _compressed(crop: Frame, quality: int) -> Frame:
    """After JPEG; a colour crop is in RGB, OpenCV's order is BGR."""
    bgr = np.ascontiguousarray(crop[..., ::-1])
    done, encoded = cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, quality])
    assert done, f"OpenCV did not encode a crop of shape {crop.shape}"
    decoded = decode(encoded.tobytes(), name="a crop").pixels
    return np.asarray(decoded, np.uint8).reshape(crop.shape)


def _like(crop: Frame, values: npt.NDArray[np.floating]) -> Frame:
    """Values in 8 bit if the crop is, else in FP32."""
    if crop.dtype == np.uint8:
        return np.asarray(np.clip(np.rint(values), 0, 255), np.uint8)
    return np.asarray(values, np.float32)
