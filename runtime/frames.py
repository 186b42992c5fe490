"""What travels through the runtime: frames, their batches and their masks."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from edgeunet.data.images import to_8bit
from edgeunet.errors import FrameError
from edgeunet.metrics import Mask

Frame = npt.NDArray[np.uint8]
"""(H, W, 3), 8 bit, RGB."""


@dataclass(frozen=True)
class SourceFrame:
    """One frame.

    index: its number, from 0. name: its file, or empty. image: (H, W, 3), 8-bit RGB.
    time: seconds since the first frame. A file's own timestamps, or None if it has none; for a
    camera, when the frame arrived.
    pixel_aspect: width of a pixel divided by its height; 1 for square pixels.
    """

    index: int
    name: str
    image: Frame
    time: float | None = None
    pixel_aspect: Fraction = Fraction(1)


@dataclass(frozen=True)
class SourceInfo:
    """What is known before decoding: number of frames (0: unknown), and their rate (None: none).

    live: frames arrive in real time; unread frames are lost.
    """

    frames: int
    rate: Fraction | None
    live: bool = False


@dataclass(frozen=True)
class Ignored:
    """What lies beside the frames of a source and is not read.

    hidden: number of names that begin with a dot. other: number of files and folders that are no
    frames.
    """

    hidden: int = 0
    other: int = 0

    def __add__(self, more: Ignored) -> Ignored:
        return Ignored(self.hidden + more.hidden, self.other + more.other)

    def __str__(self) -> str:
        counts = {"hidden": self.hidden, "other": self.other}
        return ", ".join(f"{count} {name}" for name, count in counts.items() if count)


NOTHING_IGNORED = Ignored()


class NetOutputs(NamedTuple):
    """logits: (N, C, h, w) FP32 at the net's resolution. presence: (N, C) FP32, None ungated."""

    logits: npt.NDArray[np.float32]
    presence: npt.NDArray[np.float32] | None


@dataclass
class Timings:
    """Seconds that a batch spent in each stage.

    lanes: number of batches that the net computed at the same time.
    """

    preprocess: float = 0.0
    infer: float = 0.0
    postprocess: float = 0.0
    lanes: int = 1


@dataclass(frozen=True)
class Result:
    """Masks of some frames.

    masks: (N, H, W) uint8 class ids at the frames' size.
    presence: (N, C), None without a gate.
    confidence: (N, H, W) uint8, the softmax of each pixel's class among the classes that the gate
    leaves open, 255 for 1; None unless asked for.

    Example:
        >>> result = edgeunet.load(bundle)([frame])
        >>> result.masks.shape == (1, *frame.shape[:2])
        True
    """

    masks: npt.NDArray[np.uint8]
    presence: npt.NDArray[np.float32] | None
    timings: Timings
    confidence: npt.NDArray[np.uint8] | None = None


@dataclass(frozen=True)
class Segmented:
    """A frame with its result.

    mask: class ids (H, W). presence: (C,), None without a gate. confidence: (H, W) uint8, see
    `Result`; None unless asked for.
    """

    frame: SourceFrame
    mask: Mask
    presence: npt.NDArray[np.float32] | None = None
    confidence: npt.NDArray[np.uint8] | None = None


@dataclass(eq=False)
class Batch:
    """Frames of one size on their way from a source to a sink; each stage adds what it computes.

    frames: the N frames. wants_confidence: whether to compute `confidence`.
    images: net input (N, C, h, w), added by preprocessing. outputs: added by the net. Both are
    dropped once the masks exist.
    masks, presence, confidence: see `Result`, added by post-processing.

    Raises:
        FrameError: the frames' sizes differ, or there is no frame.
    """

    frames: Sequence[SourceFrame]
    wants_confidence: bool = False
    images: npt.NDArray[np.float32] = field(init=False, repr=False)
    outputs: NetOutputs = field(init=False, repr=False)
    masks: npt.NDArray[np.uint8] = field(init=False, repr=False)
    presence: npt.NDArray[np.float32] | None = None
    confidence: npt.NDArray[np.uint8] | None = None
    timings: Timings = field(default_factory=Timings)

    def __post_init__(self) -> None:
        self.size = one_size(self.pixels)

    @classmethod
    def of(cls, images: Sequence[Frame], *, confidence: bool = False) -> Batch:
        """A batch of arrays (H, W, 3)."""
        frames = [SourceFrame(index, "", image) for index, image in enumerate(images)]
        return cls(frames, confidence)

    @property
    def pixels(self) -> list[Frame]:
        """The frames' images."""
        return [frame.image for frame in self.frames]

    def __len__(self) -> int:
        return len(self.frames)

    def __iter__(self) -> Iterator[Segmented]:
        """Each frame with its mask, once there are masks."""
        for index, frame in enumerate(self.frames):
            presence = None if self.presence is None else self.presence[index]
            confidence = None if self.confidence is None else self.confidence[index]
            yield Segmented(frame, self.masks[index], presence, confidence)


def as_rgb(frame: npt.NDArray[np.generic]) -> Frame:
    """Convert a decoded frame to 8-bit RGB (H, W, 3).

    Grayscale, (H, W) or (H, W, 1), is repeated; the alpha of RGBA is dropped; 16 bit is scaled by
    1/257, so that 65535 becomes 255.

    Raises:
        FrameError: an unsupported type, shape or number of channels, or no pixel.
    """
    if frame.ndim not in (2, 3) or frame.size == 0:
        raise FrameError(f"frame has shape {frame.shape}; expected (H, W) or (H, W, C).")
    if frame.dtype not in (np.uint8, np.uint16):
        raise FrameError(
            f"frame is {frame.dtype}; expected uint8 or uint16. Scale it to 0..255 first."
        )
    channels = 1 if frame.ndim == 2 else frame.shape[2]
    if channels not in (1, 3, 4):
        raise FrameError(f"frame has {channels} channels; expected 1 (gray), 3 (RGB) or 4 (RGBA).")
    frame = to_8bit(frame)
    if channels == 1:
        return np.repeat(frame.reshape(*frame.shape[:2], 1), 3, axis=2)
    return np.ascontiguousarray(frame[..., :3], dtype=np.uint8)


def one_size(frames: Sequence[npt.NDArray[np.uint8]]) -> tuple[int, int]:
    """Height and width that all frames of a batch share; FrameError if they differ."""
    sizes = {frame.shape[:2] for frame in frames}
    if len(sizes) != 1:
        listed = ", ".join(f"{height}x{width}" for height, width in sorted(sizes)) or "none"
        raise FrameError(f"expected frames of one size, got {listed}. Split the batch.")
    return next(iter(sizes))
