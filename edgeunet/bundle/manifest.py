"""The manifest of a bundle: manifest.json as frozen dataclasses."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from ..errors import BundleError
from .schema import SchemaError, read
from .statistics import FrameStatistics

SCHEMA_VERSION = 1
MANIFEST_NAME = "manifest.json"

Precision = Literal["fp32", "fp16", "int8"]
Color = Literal["rgb", "bgr", "gray"]
Resize = Literal["stretch", "pad"]
Filter = Literal["bilinear", "antialias", "pillow", "pillow_bicubic", "area"]
"""See `edgeunet.data.resize`."""
Flavour = Literal["fp32", "fp16", "int8", "int8.fp16", "int8.cpu"]
Part = Literal["encoder", "decoder"]
PARTS: tuple[Part, ...] = ("encoder", "decoder")
"""The two halves of a gated graph, which the bundle holds too: `image` -> `presence` and features,
features -> `logits`. If the gate is closed, the second need not run."""

IMAGENET: dict[Color, tuple[tuple[float, ...], tuple[float, ...]]] = {
    "rgb": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    "bgr": ((0.406, 0.456, 0.485), (0.225, 0.224, 0.229)),
    "gray": ((0.449,), (0.226,)),
}
"""Mean and standard deviation of values in 0..1: ImageNet's; for "gray" those of its luma."""

FLAVOURS: dict[Precision, tuple[Flavour, ...]] = {
    "fp32": ("fp32",),
    "fp16": ("fp32", "fp16"),
    "int8": ("fp32", "fp16", "int8", "int8.fp16", "int8.cpu"),
}
"""Graphs that a bundle of each precision holds. `fp32` is always the reference."""


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


@dataclass(frozen=True)
class InputSpec:
    """How a frame becomes the net's input `image` (N, C, height, width).

    height, width: size of the net's input, pixels.
    color: order of the channels; "gray" means one.
    resize: "stretch" resizes both sides to the net's; "pad" keeps the aspect ratio, puts the frame
        in the upper left corner and fills the rest with the mean colour.
    filter: how frames are resized, see `edgeunet.data.resize`.
    mean, std: per channel, for values scaled to 0..1: image = (value / 255 - mean) / std.
    """

    height: int
    width: int
    color: Color = "rgb"
    resize: Resize = "stretch"
    mean: tuple[float, ...] = IMAGENET["rgb"][0]
    std: tuple[float, ...] = IMAGENET["rgb"][1]
    filter: Filter = "bilinear"

    def __post_init__(self) -> None:
        if self.height < 1 or self.width < 1:
            raise ValueError(f"input is {self.height}x{self.width}; sides must be positive")
        if self.height * self.width > MAX_PIXELS:
            raise ValueError(
                f"input is {self.height}x{self.width}; at most {MAX_PIXELS} pixels are possible"
            )
        if len(self.mean) != self.channels or len(self.std) != self.channels:
            raise ValueError(f"mean and std need {self.channels} values for colour {self.color!r}")
        if not all(math.isfinite(value) for value in self.mean):
            raise ValueError(f"mean is {self.mean}; it must be finite")
        if not all(0 < value < math.inf for value in self.std):  # NaN too
            raise ValueError(f"std is {self.std}; it must be positive")

    @property
    def channels(self) -> int:
        """Channels of the net's input."""
        return 1 if self.color == "gray" else 3

    def fitted_size(self, height: int, width: int) -> tuple[int, int]:
        """Height and width of a frame of the given size inside the net's input.

        If frames are padded, the sides are multiples of 8. So the frame's edge is on a whole pixel
        also in logits of 1/2, 1/4 or 1/8 of the resolution.
        """
        if self.resize == "stretch":
            return self.height, self.width
        scale = min(self.height / height, self.width / width)
        rows, columns = (max(8, round(side * scale / 8) * 8) for side in (height, width))
        return min(rows, self.height), min(columns, self.width)


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


@dataclass(frozen=True)
class Manifest:
    """Contents of manifest.json.

    model, arguments: the variant and its arguments to `create_model`. weights: their tag or file.
    classes, palette: names and RGB colours by class id.
    input: preprocessing. logits_size: (height, width) of the output `logits`.
    gate: presence thresholds by class id, None without a gate.
    max_batch: largest batch of the graphs. files: SHA-256 by file name.
    versions: of the packages that made the bundle.
    depths: SHA-256 of the manifest of each shallower depth that the bundle holds, by depth.
    frames: what the frames of the export were like, None if it had none that are like the
    application's.
    """

    model: str
    arguments: dict[str, Any]
    weights: str
    precision: Precision
    classes: tuple[str, ...]
    palette: tuple[tuple[int, int, int], ...]
    input: InputSpec
    logits_size: tuple[int, int]
    max_batch: int
    files: dict[str, str]
    versions: dict[str, str]
    gate: tuple[float, ...] | None = None
    depths: dict[str, str] = field(default_factory=dict)
    frames: FrameStatistics | None = None
    schema_version: int = SCHEMA_VERSION

    def __post_init__(self) -> None:
        check_classes(self.classes, self.palette, self.gate)
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
        """The graphs that the bundle holds."""
        return FLAVOURS[self.precision]


def read_manifest(path: Path) -> Manifest:
    """Read and validate a manifest.

    Raises:
        BundleError: missing, not JSON, of another schema version, or it does not fit the schema.
    """
    try:
        return read(Manifest, path, version=SCHEMA_VERSION)
    except FileNotFoundError:
        raise BundleError(
            f"{path.parent} is not a bundle: it has no {path.name}. `edgeunet export` writes one."
        ) from None
    except SchemaError as error:
        raise BundleError(
            f"{path} {error}. Export the bundle again, or install the edgeunet that wrote it."
        ) from None


def scaling(spec: InputSpec) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """Gain and shift of each channel of the net: image = value * gain + shift, in FP32."""
    std = np.asarray(spec.std, np.float32)
    return np.float32(1) / (255 * std), -np.asarray(spec.mean, np.float32) / std


def covered_size(
    spec: InputSpec, logits_size: tuple[int, ...], size: tuple[int, int]
) -> tuple[int, int]:
    """Rows and columns of the logits that a frame of `size`, not the padding, lies in."""
    fitted = spec.fitted_size(*size)
    return logits_size[0] * fitted[0] // spec.height, logits_size[1] * fitted[1] // spec.width
