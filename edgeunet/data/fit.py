"""Fits frames to a net: picks channels by name and checks what the values mean.

Training, calibration, parity and the runtime read their frames through `Fit`, so that all of them
take the same files and refuse the others with the same words.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from ..bundle.manifest import BYTE_LEVELS, DEPTHS, RGB, InputSpec, Levels, channel_names, misfit
from ..errors import FrameError, UsageError, printable
from ..fields import described
from .images import Picture, Pixels, read_picture, to_8bit

Frame = npt.NDArray[Any]
"""(H, W, C) of one of `DEPTHS`, of the channels that `InputSpec.frame_channels` names."""

_log = logging.getLogger(__name__)
_GRAY = ("gray",)
_TAPS = 2  # pixels that bilinear interpolation reads, in a row and in a column
_FEW = 1 / 2
"""Share of the pixels that a filter should read, or noise and fine detail alias."""

_SMALL = 1 / 8
"""Values that use at most this share of 16 bit are probably of fewer bits."""


@dataclass(frozen=True)
class Reading:
    """What a caller says about frames that do not say it themselves.

    levels: raw values that mean 0 and 1; None for those of the net, in the net's depth.
    channels: their names in the order of the frames; None for what the files say. See
    `channel_names` for what is a name.

    Raises:
        UsageError: levels or names that cannot be.

    Example:
        >>> from edgeunet.data.fit import Reading
        >>> Reading(levels=(0, 4095), channels=("bgr",)).channels
        ('blue', 'green', 'red')
    """

    levels: tuple[float, ...] | None = described(
        None,
        "Raw values of the frames that mean black and white.",
        metavar="LO,HI",
        shown_default="the net's",
    )
    channels: tuple[str, ...] | None = described(
        None,
        "Channels of the frames in their order, for files that do not name them.",
        metavar="NAME,…",
        shown_default="what the files say",
    )

    def __post_init__(self) -> None:
        if self.levels is not None and (problem := misfit(self.levels)):
            raise UsageError(f"{problem}. Pass --levels LO,HI.")
        if self.channels is not None:
            object.__setattr__(self, "channels", channel_names(self.channels))


class Fit:
    """Turns pictures of any depth and channels into frames for one net, or says why it cannot.

    Values come out in the net's levels: as they are, or as FP32 if the caller told other levels.
    16 bit for a net of 8 bit is scaled by 1/257, which `tell` hears of once. It also hears once of
    frames so large that the net's filter leaves most of their pixels unread.

    Args:
        spec: of the net. channels: wanted instead of the spec's `frame_channels`.
        resized: frames will be resized to the net's input; tiles are not.
        tell: gets a note.

    Example:
        >>> from edgeunet.bundle.manifest import InputSpec
        >>> from edgeunet.data.fit import Fit
        >>> Fit(InputSpec(64, 96))(np.zeros((8, 8), np.uint8)).shape
        (8, 8, 3)
    """

    def __init__(
        self,
        spec: InputSpec,
        reading: Reading | None = None,
        *,
        channels: Sequence[str] | None = None,
        resized: bool = True,
        tell: Callable[[str], None] = _log.warning,
    ) -> None:
        self.spec = spec
        self._reading = reading or Reading()
        self._wanted = tuple(channels or spec.frame_channels)
        if spec.channels == _GRAY and self._reading.levels is not None:
            self._wanted = _GRAY  # only 8 bit is RGB then
        self._tell = tell
        self._told = False
        self._may_alias = resized and spec.filter == "bilinear"

    def __call__(
        self,
        pixels: npt.NDArray[np.generic],
        channels: tuple[str, ...] = (),
        *,
        name: str = "frame",
    ) -> Frame:
        """Fit (H, W) or (H, W, C).

        Args:
            channels: their names; () for gray, RGB, RGBA or the net's own, by their number.
            name: of the frame, for errors.

        Raises:
            FrameError: a shape, depth or channels that do not fit the net.
        """
        name = printable(name)
        if pixels.ndim not in (2, 3) or pixels.size == 0:
            raise FrameError(f"{name} has shape {pixels.shape}; expected (H, W) or (H, W, C).")
        if pixels.ndim == 2:
            pixels = pixels[..., None]
        if self._may_alias:
            self._tell_of_unread((pixels.shape[0], pixels.shape[1]), name)
        return self._levelled(self._picked(pixels, channels, name), name)

    def picture(self, picture: Picture, *, name: str) -> Frame:
        """Fit a decoded image; errors as of a call."""
        return self(picture.pixels, picture.channels, name=name)

    def read(self, path: Path) -> Frame:
        """Read and fit an image file; errors as of a call and of `read_picture`."""
        return self.picture(read_picture(path), name=str(path))

    @property
    def keeps_rgb(self) -> bool:
        """Whether 8-bit RGB passes as it is.

        Then `__call__` looks at no pixel of it, so that what has the form of an array is enough.
        """
        spec, reading = self.spec, self._reading
        levels, channels = reading.levels or spec.levels, reading.channels or RGB
        return (self._wanted, channels, spec.depth, levels) == (RGB, RGB, "uint8", spec.levels)

    @property
    def channels(self) -> tuple[str, ...]:
        """Names of the channels that frames come out with."""
        return self._wanted

    # Channels

    def _picked(self, pixels: Pixels, channels: tuple[str, ...], name: str) -> Pixels:
        """The wanted channels of (H, W, C); gray is repeated for RGB, and computed from it."""
        count = pixels.shape[2]
        names = self._reading.channels or channels or self._usual(count)
        if len(names) != count:
            raise FrameError(f"{name} has {_counted(count)}; {self._expected(names)}")
        wanted = self._wanted
        if names[: len(wanted)] == wanted:
            return pixels if len(names) == len(wanted) else pixels[..., : len(wanted)]
        if set(wanted) <= set(names):
            return pixels[..., [names.index(each) for each in wanted]]
        if wanted == _GRAY and set(RGB) <= set(names):
            return gray_of(pixels[..., [names.index(each) for each in RGB]])
        if set(wanted) <= set(RGB) and "gray" in names:
            gray = names.index("gray")
            return np.repeat(pixels[..., gray : gray + 1], len(wanted), axis=2)
        lacking = ", ".join(each for each in wanted if each not in names)
        raise FrameError(f"{name} has {_counted(count)}, {', '.join(names)}, and lacks {lacking}. "
                         f"{_NAME_THEM}")  # fmt: skip

    def _usual(self, count: int) -> tuple[str, ...]:
        """Names of so many channels without names; () if there is no usual meaning."""
        if set(self._wanted) <= {*RGB, "gray"}:
            return {1: _GRAY, 3: RGB, 4: (*RGB, "alpha")}.get(count, ())
        return self.spec.channels if count == len(self.spec.channels) else ()

    def _expected(self, names: tuple[str, ...]) -> str:
        if self._reading.channels:
            return f"--channels names {len(names)}, {', '.join(names)}."
        return f"the net takes {', '.join(self._wanted)}. {_NAME_THEM}"

    # Levels

    def _levelled(self, pixels: Pixels, name: str) -> Frame:
        spec, given, depth = self.spec, self._reading.levels, pixels.dtype.name
        if depth not in (*DEPTHS, "float64") or (depth == "float64" and not self._takes_floats):
            raise FrameError(f"{name} is {depth}; expected {spec.depth}{self._advice(depth)}")
        if pixels.dtype.kind == "f" and not np.isfinite(pixels).all():
            raise FrameError(f"{name} holds values that are not finite. Replace them first.")
        if depth == "float64":
            pixels, depth = pixels.astype(np.float32), "float32"
        if depth == spec.depth and given in (None, spec.levels):
            return np.ascontiguousarray(pixels) if isinstance(pixels, np.ndarray) else pixels
        if given is not None:
            (low, high), (first, last) = spec.levels, given
            scale = (high - low) / (last - first)
            values = np.asarray(pixels, np.float64)
            return ((values - first) * scale + low).astype(np.float32, order="C")
        if depth == "uint16" and (spec.depth, spec.levels) == ("uint8", BYTE_LEVELS):
            self._tell_once(int(pixels.max()), name)
            return to_8bit(np.ascontiguousarray(pixels))
        raise FrameError(
            f"{name} is {depth}; the net takes {spec.depth}, where {spec.levels[0]:g} means black "
            f"and {spec.levels[1]:g} white{self._advice(depth)}"
        )

    @property
    def _takes_floats(self) -> bool:
        return self._reading.levels is not None or self.spec.depth == "float32"

    def _advice(self, depth: str) -> str:
        example = {"uint8": "0,255", "uint16": "0,65535", "int16": "-1000,3000"}.get(depth, "0,1")
        return (
            ". Say which raw values of the frames mean black and white: --levels LO,HI, such as "
            f"--levels {example}."
        )

    def _tell_of_unread(self, size: tuple[int, int], name: str) -> None:
        """Tell once if the filter reads few of the pixels of a frame of `size`."""
        fitted = self.spec.fitted_size(*size)
        read = math.prod(min(1.0, _TAPS * to / side) for to, side in zip(fitted, size, strict=True))
        if read >= _FEW:
            return
        self._may_alias = False
        shown = ["{}x{}".format(*each) for each in (size, fitted)]
        share = f"{read:.0%}" if read >= 0.01 else "less than 1%"
        self._tell(
            f"{name} has {shown[0]} pixels, and the filter bilinear reads {share} of them for "
            f"{shown[1]}: noise and fine detail alias. Export with --filter antialias, which reads "
            "all."
        )

    def _tell_once(self, largest: int, name: str) -> None:
        if self._told:
            return
        self._told = True
        note = few_bits(largest)
        said = "16 bit, which the net takes as 8 bit: 65535 becomes 255"
        self._tell(f"{name} is {said}.{f' But {note}' if note else ''}")


_NAME_THEM = "Name the channels of the frames in their order: --channels red,green,blue,…."


def is_usual(channels: tuple[str, ...], count: int) -> bool:
    """Whether channels are gray or RGB, with or without alpha."""
    names = channels or {1: _GRAY, 3: RGB}.get(count, ("",))
    return set(names) <= {*RGB, "gray", "alpha"} and ("gray" in names or set(RGB) <= set(names))


def few_bits(largest: int) -> str:
    """A note if 16-bit values fill a small part of their range; empty if they do not."""
    if largest > _SMALL * 65535:
        return ""
    white = (1 << max(8, largest.bit_length())) - 1
    return (
        f"its largest value is {largest}, a small part of that range. If {white} is white, pass "
        f"--levels 0,{white}."
    )


def gray_of(rgb: Pixels) -> Pixels:
    """Luma (H, W, 1) of RGB in the same depth: ITU-R BT.601, rounded if the values are integers."""
    if rgb.dtype == np.int16:  # which OpenCV does not take
        return np.rint(gray_of(rgb.astype(np.float32))).astype(np.int16)
    given: Any = np.ascontiguousarray(rgb)
    gray: Pixels = cv2.cvtColor(given, cv2.COLOR_RGB2GRAY)[..., None]
    return gray


def visible(frame: Frame, channels: Sequence[str], levels: Levels) -> npt.NDArray[np.uint8]:
    """A picture of a frame for people: 8-bit RGB (H, W, 3), black and white as the levels say.

    It shows red, green and blue; without them gray, or the first channel.

    Args:
        channels: their names; () for gray or RGB. Frames of gray nets may have gray alone.
    """
    names = tuple(channels)
    if len(names) != frame.shape[2]:
        names = RGB if frame.shape[2] == len(RGB) else _GRAY
    if set(RGB) <= set(names):
        shown = frame if names == RGB else frame[..., [names.index(each) for each in RGB]]
    else:
        first = names.index("gray") if "gray" in names else 0
        shown = np.repeat(frame[..., first : first + 1], 3, axis=2)
    return np.ascontiguousarray(gray_levels(shown, levels).astype(np.uint8, copy=False))


def gray_levels(frame: Frame, levels: Levels) -> Frame:
    """Values in 0..255, rounded and clipped, FP32; 8-bit values of 0 to 255 stay as they are."""
    low, high = levels
    if frame.dtype == np.uint8 and levels == BYTE_LEVELS:
        return frame
    scaled = (frame.astype(np.float32) - np.float32(low)) * np.float32(255 / (high - low))
    return np.asarray(np.clip(np.rint(scaled), 0, 255), np.float32)


def _counted(count: int) -> str:
    return "1 channel" if count == 1 else f"{count} channels"
