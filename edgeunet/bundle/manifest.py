"""The manifest of a bundle: manifest.json as frozen dataclasses."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from ..errors import UsageError
from .statistics import FrameStatistics
from .steps import ImageStatistics, Window

SCHEMA_VERSION = 2
MANIFEST_NAME = "manifest.json"

Precision = Literal["fp32", "fp16", "bf16", "int8"]
"""What a net computes in, the most exact first.

BF16 has no graph of its own: it is how a machine computes the graph of FP32. So no bundle is
exported for it, and every bundle can be run in it on a machine that can."""
Exported = Literal["fp32", "fp16", "int8"]
"""What a bundle is exported for."""
Resize = Literal["stretch", "pad", "pad_centre"]
Filter = Literal["bilinear", "antialias", "pillow", "pillow_bicubic", "torchvision", "area"]
"""See `edgeunet.data.resize`."""
BYTE_FILTERS: tuple[Filter, ...] = ("pillow", "pillow_bicubic", "torchvision")
"""These read bytes and round to bytes."""
Depth = Literal["uint8", "uint16", "int16", "float32"]
DEPTHS: tuple[Depth, ...] = get_args(Depth)
"""Types of the values that a frame or a picture may have."""
Levels = tuple[float, float]
"""Raw values that mean 0 and 1."""
Flavour = Literal["fp32", "fp16", "int8", "int8.fp16", "int8.cpu", "int8.openvino", "int8.qnn"]
Part = Literal["encoder", "decoder"]
Kept = Literal["checkpoint", "graph"]
PARTS: tuple[Part, ...] = ("encoder", "decoder")
"""The two halves of a gated graph, which the bundle holds too: `image` -> `presence` and features,
features -> `logits`. If the gate is closed, the second need not run."""

RGB = ("red", "green", "blue")
BYTE_LEVELS: Levels = (0.0, 255.0)
MAX_CHANNELS = 64
"""Most channels of a net's input: the CUDA kernels pass a table of them."""

_CHANNEL = re.compile(r"[a-z0-9][a-z0-9 _.-]{0,31}", re.ASCII)
_WORDS = {"rgb": RGB, "bgr": RGB[::-1]}  # of the usual channels in their usual orders
_IMAGENET = {
    "red": (0.485, 0.229),
    "green": (0.456, 0.224),
    "blue": (0.406, 0.225),
    "gray": (0.449, 0.226),
}


def imagenet(channels: Sequence[str]) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation of ImageNet's values in 0..1, for "gray" those of its luma.

    Other channels get those of gray.

    Example:
        >>> from edgeunet.bundle.manifest import imagenet
        >>> imagenet(["blue", "nir"])
        ((0.406, 0.449), (0.225, 0.226))
    """
    mean, std = zip(*(_IMAGENET.get(name, _IMAGENET["gray"]) for name in channels), strict=True)
    return mean, std


def channel_names(given: Sequence[str]) -> tuple[str, ...]:
    """Names of channels as a user gives them: in lower case, or one of the words rgb and bgr.

    Raises:
        UsageError: no name, one that occurs twice or is not plain.

    Example:
        >>> from edgeunet.bundle.manifest import channel_names
        >>> channel_names(["BGR"])
        ('blue', 'green', 'red')
    """
    names = tuple(name.strip().lower() for name in given)
    names = _WORDS.get(names[0], names) if len(names) == 1 else names
    if problem := _misnamed(names):
        raise UsageError(f"channels: {problem}. Pass names such as red,green,blue,nir.")
    return names


def _misnamed(names: tuple[str, ...]) -> str:
    """What is wrong with names of channels; empty if nothing is."""
    if not 1 <= len(names) <= MAX_CHANNELS:
        return f"expected 1 to {MAX_CHANNELS} names, got {len(names)}"
    odd = [name for name in names if not _CHANNEL.fullmatch(name)]
    if odd:
        return f"{odd[0]!r} is no name of a channel"
    twice = next((name for name in names if names.count(name) > 1), None)
    return f"{twice!r} occurs twice" if twice else ""


FLAVOURS: dict[Exported, tuple[Flavour, ...]] = {
    "fp32": ("fp32",),
    "fp16": ("fp32", "fp16"),
    "int8": ("fp32", "fp16", "int8", "int8.fp16", "int8.cpu", "int8.openvino", "int8.qnn"),
}
"""Graphs that a bundle exported for each precision holds. `fp32` is always the reference."""


MAX_PIXELS = 1 << 26
"""Most pixels of a net's input and output, as of 8192x8192: 800 MB for three channels."""
MAX_CLASSES = 256
"""Most classes: ids in masks have 8 bits."""
MAX_BATCH = 1024

DEPTHS_DIR = "depths"
"""Subdirectory with a whole bundle for each shallower depth: `depths/1`, …."""


def flavour_file(flavour: Flavour) -> str:
    """File name of a graph inside the bundle."""
    return f"model.{flavour}.onnx"


def part_file(flavour: Flavour, part: Part) -> str:
    """File name of one part of a gated graph inside the bundle."""
    return f"model.{flavour}.{part}.onnx"


def pixels_file(flavour: Flavour) -> str:
    """File name, inside the bundle, of a graph that takes frames and gives masks."""
    return f"model.{flavour}.pixels.onnx"


@dataclass(frozen=True, kw_only=True)
class InputSpec:
    """How a frame becomes the net's input `image` (N, C, height, width).

    height, width: size of the net's input, pixels.
    channels: their names, in the net's order. "gray" is computed from red, green and blue if a
        frame has no gray, and nothing else is computed.
    levels: raw values that mean 0 and 1, such as (0, 255), (0, 4095) or (0, 1).
    depth: type of the raw values. Frames of another depth are not scaled in silence, see `Fit`.
    resize: "stretch" resizes both sides to the net's; "pad" keeps the aspect ratio and puts the
        frame in the upper left corner, "pad_centre" in the middle.
    filter: how frames are resized, see `edgeunet.data.resize`.
    fill: raw value of the padding; None for the mean colour.
    statistics: what each image is normalised by; None scales values by the levels.
    window: how the net runs on frames of their own size; None resizes frames to the net's.
    mean, std: per channel, for values scaled to 0..1:
        image = ((value - levels[0]) / (levels[1] - levels[0]) - mean) / std,
        or of what `statistics` gives: image = (normalised - mean) / std.
        (): ImageNet's for gray and RGB without `statistics`; 0 and 1 with them.

    Example:
        >>> from edgeunet.bundle.manifest import InputSpec
        >>> InputSpec(64, 96, channels=("gray",), mean=(0.5,), std=(0.25,)).frame_channels
        ('red', 'green', 'blue')
    """

    # Python 3.10's `get_type_hints` does not take `_: KW_ONLY`.
    height: int = field(kw_only=False)
    width: int = field(kw_only=False)
    channels: tuple[str, ...] = RGB
    levels: Levels = BYTE_LEVELS
    depth: Depth = "uint8"
    resize: Resize = "stretch"
    filter: Filter = "bilinear"
    fill: float | None = None
    statistics: ImageStatistics | None = None
    window: Window | None = None
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        if self.height < 1 or self.width < 1:
            raise ValueError(f"input is {self.height}x{self.width}; sides must be positive")
        if self.height * self.width > MAX_PIXELS:
            raise ValueError(
                f"input is {self.height}x{self.width}; at most {MAX_PIXELS} pixels are possible"
            )
        if problem := _misnamed(self.channels):
            raise ValueError(f"channels: {problem}")
        if problem := misfit(self.levels):
            raise ValueError(problem)
        if self.filter in BYTE_FILTERS and self.depth != "uint8":
            raise ValueError(
                f"filter is {self.filter!r}, which rounds to bytes; it does not fit {self.depth}"
            )
        if self.window is not None and self.resize != "stretch":
            raise ValueError(f"resize is {self.resize!r}; frames in windows are not resized")
        if self.fill is not None and not (math.isfinite(self.fill) and self.fills):
            raise ValueError(f"fill is {self.fill} with resize {self.resize!r}; it is for padding")
        if self.fill is not None and self.statistics is not None:
            raise ValueError(f"fill is {self.fill}; padding is 0 if images are measured")
        if self.filter in BYTE_FILTERS and self.statistics is not None and self.statistics.masks:
            raise ValueError(
                f"filter is {self.filter!r}; it does not fit statistics of some pixels only, which "
                "are applied before it"
            )
        self._complete()
        count = len(self.channels)
        if len(self.mean) != count or len(self.std) != count:
            raise ValueError(f"mean and std need {count} values for {', '.join(self.channels)}")
        if not all(math.isfinite(value) for value in self.mean):
            raise ValueError(f"mean is {self.mean}; it must be finite")
        if not all(0 < value < math.inf for value in self.std):  # NaN too
            raise ValueError(f"std is {self.std}; it must be positive")

    def _complete(self) -> None:
        """Set mean and standard deviation if they are not given and there are usual ones."""
        count = len(self.channels)
        usual = set(self.channels) <= {*RGB, "gray"}
        mean, std = imagenet(self.channels) if usual else ((), ())
        if self.statistics is not None:
            mean, std = (0.0,) * count, (1.0,) * count
        object.__setattr__(self, "mean", self.mean or mean)
        object.__setattr__(self, "std", self.std or std)

    @property
    def pads(self) -> bool:
        """Whether frames keep their aspect ratio."""
        return self.resize != "stretch"

    @property
    def fills(self) -> bool:
        """Whether a frame may leave some of the net's input empty."""
        return self.pads or self.window is not None

    @property
    def frame_channels(self) -> tuple[str, ...]:
        """Channels of a frame (H, W, C) for the net: RGB if that holds all, else the net's own.

        A frame of a gray net may have gray alone too, and of another depth than 8 bit it must.
        """
        own = set(self.channels)
        gray = self.channels == ("gray",) and self.depth == "uint8"
        return RGB if gray or own <= set(RGB) else self.channels

    def fitted_size(self, height: int, width: int) -> tuple[int, int]:
        """Height and width of a frame of the given size inside the net's input.

        If frames are padded, the sides are multiples of 8. So the frame's edge is on a whole pixel
        also in logits of 1/2, 1/4 or 1/8 of the resolution. Frames in windows are not resized.
        """
        if self.window is not None:
            return height, width
        if not self.pads:
            return self.height, self.width
        scale = min(self.height / height, self.width / width)
        rows, columns = (max(8, round(side * scale / 8) * 8) for side in (height, width))
        return min(rows, self.height), min(columns, self.width)

    def offset(self, height: int, width: int) -> tuple[int, int]:
        """Row and column of the net's input where a frame of the given size begins.

        Multiples of 8, for the reason that `fitted_size` has.
        """
        if self.resize != "pad_centre":
            return 0, 0
        rows, columns = self.fitted_size(height, width)
        return (self.height - rows) // 16 * 8, (self.width - columns) // 16 * 8


def depth_of(levels: Levels) -> Depth:
    """The depth that holds such levels, if nothing else is known of it.

    Example:
        >>> from edgeunet.bundle.manifest import depth_of
        >>> [depth_of(levels) for levels in ((0, 255), (0, 4095), (-1000, 3000), (0, 1))]
        ['uint8', 'uint16', 'int16', 'float32']
    """
    low, high = levels
    if levels == BYTE_LEVELS:
        return "uint8"
    if low >= 0 and 255 < high <= 65535:
        return "uint16"
    return "int16" if -32768 <= low < -1 and 1 < high <= 32767 else "float32"


def misfit(levels: Sequence[float]) -> str:
    """What is wrong with levels; empty if nothing is."""
    if len(levels) == 2 and -math.inf < levels[0] < levels[1] < math.inf:
        return ""
    shown = ", ".join(f"{level:g}" for level in levels)
    return f"levels are {shown}; expected two finite values, the smaller one first"


def check_classes(
    classes: tuple[str, ...],
    palette: tuple[tuple[int, int, int], ...],
    gate: tuple[float, ...] | None,
) -> None:
    """Raise ValueError unless each class has one colour and one gate threshold, in range."""
    if not 1 <= len(classes) <= MAX_CLASSES:
        raise ValueError(f"{len(classes)} classes; 1 to {MAX_CLASSES} are possible")
    if len(palette) != len(classes):
        raise ValueError(f"{len(classes)} classes, but {len(palette)} colours")
    if any(not 0 <= value <= 255 for colour in palette for value in colour):
        raise ValueError(f"palette is {palette}; its values go from 0 to 255")
    if gate is None:
        return
    if len(gate) != len(classes):
        raise ValueError(f"{len(classes)} classes, but {len(gate)} gate thresholds")
    if not all(0 <= threshold <= 1 for threshold in gate):  # NaN too
        raise ValueError(f"gate is {gate}; thresholds of a probability go from 0 to 1")


def check_gate(spec: InputSpec, gate: tuple[float, ...] | None) -> None:
    """Raise ValueError if a gate, which decides on whole frames, is to decide on windows."""
    if gate is not None and spec.window is not None:
        raise ValueError("a gate decides on whole frames; it does not fit an input with windows")


@dataclass(frozen=True)
class Manifest:
    """Contents of manifest.json.

    schema_version: of this file; another one is refused.
    model: name of the variant, or of another net. arguments: of the variant, to `create_model`; of
    other nets none. weights: tag or file of the weights. precision: what the bundle was exported
    for.
    reference: what the bundle keeps to be compared with: the checkpoint of a variant, or else the
    FP32 graph, which the export compared with `origin`. origin: the net as it came, for people.
    classes: names by class id. palette: RGB colours by class id, 0 to 255.
    input: how a frame becomes the net's input. logits_size: (height, width) of the output `logits`.
    gate: presence thresholds by class id, None without a gate.
    max_batch: largest batch of the graphs. files: SHA-256 by file name.
    versions: those of the packages that made the bundle.
    depths: SHA-256 of the manifest of each shallower depth that the bundle holds, by depth.
    frames: what the frames of the export were like, None if it had none that are like the
    application's.
    """

    model: str
    arguments: dict[str, Any]
    weights: str
    precision: Precision  # in a file, one of `Exported`
    classes: tuple[str, ...]
    palette: tuple[tuple[int, int, int], ...]
    input: InputSpec
    logits_size: tuple[int, int]
    max_batch: int
    files: dict[str, str]
    versions: dict[str, str]
    reference: Kept
    origin: str
    gate: tuple[float, ...] | None = None
    depths: dict[str, str] = field(default_factory=dict)
    frames: FrameStatistics | None = None
    schema_version: int = SCHEMA_VERSION

    def __post_init__(self) -> None:
        check_classes(self.classes, self.palette, self.gate)
        check_gate(self.input, self.gate)
        if min(self.logits_size) < 1:
            raise ValueError(f"logits_size is {self.logits_size}; sides must be positive")
        if self.logits_size[0] * self.logits_size[1] > MAX_PIXELS:
            raise ValueError(
                f"logits_size is {self.logits_size}; at most {MAX_PIXELS} pixels are possible"
            )
        if not 1 <= self.max_batch <= MAX_BATCH:
            raise ValueError(
                f"max_batch is {self.max_batch}; it must be at least 1 and at most {MAX_BATCH}"
            )
        own = self.arguments.get("depth")
        for depth in self.depths:
            # It becomes the name of a directory, so only a plain number is safe.
            plain = re.fullmatch(r"[1-9]", depth, re.ASCII) is not None
            if not plain or not isinstance(own, int) or int(depth) >= own:
                raise ValueError(
                    f"depths: expected numbers below the net's own depth, got {depth!r}"
                )

    @property
    def flavours(self) -> tuple[Flavour, ...]:
        """The graphs that the bundle holds, as far as its precision needs them."""
        return FLAVOURS["fp32" if self.precision == "bf16" else self.precision]


def covered(
    spec: InputSpec, logits_size: tuple[int, ...], size: tuple[int, int]
) -> tuple[slice, slice]:
    """Rows and columns of the logits that a frame of `size`, not the padding, lies in."""
    rows, columns = (
        slice(first * side // whole, (first + part) * side // whole)
        for first, part, side, whole in zip(
            spec.offset(*size),
            spec.fitted_size(*size),
            logits_size[:2],
            (spec.height, spec.width),
            strict=True,
        )
    )
    return rows, columns
