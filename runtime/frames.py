"""What travels through the runtime: frames, their batches and their masks."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from edgeunet.bundle.manifest import BYTE_LEVELS, Levels
from edgeunet.data.fit import Frame as Frame
from edgeunet.data.fit import visible
from edgeunet.data.images import Rgb
from edgeunet.data.tiff import Georeference
from edgeunet.errors import FrameError
from edgeunet.metrics import Mask


@dataclass(frozen=True)
class SourceFrame:
    """One frame.

    index: its number, from 0. name: its file, or empty. image: (H, W, C), as the source has it;
    once it is fitted to a net, as `Frame`. Videos and cameras have 8-bit RGB.
    time: seconds since the first frame. A file's own timestamps, or None if it has none; for a
    camera, when the frame arrived.
    pixel_aspect: width of a pixel divided by its height; 1 for square pixels.
    channels: their names, () if the source does not name them.
    levels: raw values that mean black and white.
    georeference: where its pixels lie on the earth, if its file is a GeoTIFF.
    """

    index: int
    name: str
    image: Frame
    time: float | None = None
    pixel_aspect: Fraction = Fraction(1)
    channels: tuple[str, ...] = ()
    levels: Levels = BYTE_LEVELS
    georeference: Georeference | None = None

    @property
    def picture(self) -> Rgb:
        """The frame for people: 8-bit RGB (H, W, 3), see `visible`."""
        return visible(self.image, self.channels, self.levels)


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

    @property
    def is_finite(self) -> bool:
        """Whether all are numbers. A broken net gives NaN, which the argmax takes for class 0."""
        presence = self.presence
        return bool(
            np.isfinite(self.logits).all() and (presence is None or np.isfinite(presence).all())
        )


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
        FrameError: the frames' sizes or depths differ, or there is no frame.
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
        """A batch of frames (H, W, C)."""
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


def one_size(frames: Sequence[Frame]) -> tuple[int, int]:
    """Height and width that all frames of a batch share; FrameError if their forms differ."""
    forms = {(frame.shape[0], frame.shape[1], frame.shape[2:], frame.dtype) for frame in frames}
    if len(forms) == 1:
        height, width, *_ = next(iter(forms))
        return height, width
    sizes = {f"{height}x{width}" for height, width, *_ in forms}
    kinds = {f"{form[3]} of {form[2]} channels" for form in forms}
    listed = ", ".join(sorted(sizes if len(sizes) != 1 else kinds)) or "none"
    what = "size" if len(sizes) != 1 else "depth and number of channels"
    raise FrameError(f"expected frames of one {what}, got {listed}. Split the batch.")
