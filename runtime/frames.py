"""What travels through the runtime: frames, their batches and their masks."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from itertools import groupby
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
class Stamp:
    """What a message of a robot says of its frame.

    topic: that it was published on. frame_id: name of the camera's coordinates. time: that of its
    header, 0 if it has none; logged: when it was recorded or received. Both are nanoseconds.
    """

    topic: str
    frame_id: str
    time: int
    logged: int


@dataclass(frozen=True)
class SourceFrame:
    """One frame.

    index: its number, from 0. name: its file, or empty. image: (H, W, C), as the source has it;
    once it is fitted to a net, as `Frame`. Videos and cameras have 8-bit RGB. Those that the GPU
    decodes have a `DeviceFrame`, which `numpy.asarray` downloads.
    time: seconds since the first frame. A file's own timestamps, or None if it has none; for a
    camera, when the frame arrived.
    pixel_aspect: width of a pixel divided by its height; 1 for square pixels.
    channels: their names, () if the source does not name them.
    levels: raw values that mean black and white.
    georeference: where its pixels lie on the earth, if its file is a GeoTIFF.
    stamp: of a message of ROS.
    source: name of its source in a stream of several. read_at: when the stream had read it, by
    `time.perf_counter`.
    """

    index: int
    name: str
    image: Frame
    time: float | None = None
    pixel_aspect: Fraction = Fraction(1)
    channels: tuple[str, ...] = ()
    levels: Levels = BYTE_LEVELS
    georeference: Georeference | None = None
    stamp: Stamp | None = None
    source: str = ""
    read_at: float | None = field(default=None, compare=False)

    @property
    def picture(self) -> Rgb:
        """The frame for people: 8-bit RGB (H, W, 3), see `visible`."""
        return visible(np.asarray(self.image), self.channels, self.levels)


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

    @property
    def source(self) -> str:
        """Name of the frame's source in a stream of several; else empty."""
        return self.frame.source


@dataclass(eq=False)
class Run:
    """Frames side by side in a batch that have one size and depth, with their masks.

    at: where they stand in the batch. frames: the n frames. size: their height and width.
    masks: (n, H, W). confidence: (n, H, W), None unless asked for.
    """

    at: slice
    frames: Sequence[SourceFrame]
    size: tuple[int, int]
    masks: npt.NDArray[np.uint8] = field(init=False, repr=False)
    confidence: npt.NDArray[np.uint8] | None = None

    @property
    def pixels(self) -> list[Frame]:
        """The frames' images."""
        return [frame.image for frame in self.frames]


@dataclass(eq=False)
class Batch:
    """Frames on their way from sources to sinks; each stage adds what it computes.

    frames: the N frames, of any sizes. wants_confidence: whether to compute `confidence`.
    sources: number of sources that give frames, of which this batch need not have all.
    runs: the frames by size, which post-processing gives masks and confidence.
    images: net input (N, C, h, w), added by preprocessing. outputs: added by the net. Both are
    dropped once the masks exist.
    presence: see `Result`, added by post-processing.

    Raises:
        FrameError: there is no frame. In `size`, `masks` and `confidence`: sizes or depths differ.
    """

    frames: Sequence[SourceFrame]
    wants_confidence: bool = False
    sources: int = 1
    runs: Sequence[Run] = field(init=False)
    images: npt.NDArray[np.float32] = field(init=False, repr=False)
    outputs: NetOutputs = field(init=False, repr=False)
    presence: npt.NDArray[np.float32] | None = None
    timings: Timings = field(default_factory=Timings)

    def __post_init__(self) -> None:
        self.runs = _runs(self.frames)
        if not self.runs:
            one_size([])  # raises

    @classmethod
    def of(cls, images: Sequence[Frame], *, confidence: bool = False) -> Batch:
        """A batch of frames (H, W, C)."""
        frames = [SourceFrame(index, "", image) for index, image in enumerate(images)]
        return cls(frames, confidence)

    @property
    def pixels(self) -> list[Frame]:
        """The frames' images."""
        return [frame.image for frame in self.frames]

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of all frames."""
        return self._only.size

    @property
    def masks(self) -> npt.NDArray[np.uint8]:
        """Masks (N, H, W) of frames of one size."""
        return self._only.masks

    @property
    def confidence(self) -> npt.NDArray[np.uint8] | None:
        """Confidence (N, H, W) of frames of one size, None unless asked for."""
        return self._only.confidence

    @property
    def _only(self) -> Run:
        one_size(self.pixels)
        return self.runs[0]

    def __len__(self) -> int:
        return len(self.frames)

    def __iter__(self) -> Iterator[Segmented]:
        """Each frame with its mask, once there are masks."""
        for run in self.runs:
            for index, frame in enumerate(run.frames):
                presence = None if self.presence is None else self.presence[run.at.start + index]
                confidence = None if run.confidence is None else run.confidence[index]
                yield Segmented(frame, run.masks[index], presence, confidence)


def _runs(frames: Sequence[SourceFrame]) -> list[Run]:
    runs, start = list[Run](), 0
    for form, group in groupby(frames, lambda frame: (frame.image.shape, frame.image.dtype)):
        alike = list(group)
        height, width = form[0][:2]
        runs.append(Run(slice(start, start + len(alike)), alike, (height, width)))
        start += len(alike)
    return runs


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
