"""Launch the kernels. Arrays are device addresses; they are contiguous in the shapes given here."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from edgeunet.bundle.manifest import (
    BYTE_FILTERS,
    MAX_CHANNELS,
    RGB,
    InputSpec,
    covered,
)
from edgeunet.data.normalise import padding, scaling
from edgeunet.data.resize import Size, check_depth, tables
from edgeunet.errors import BackendError, FrameError

Grid = tuple[int, int, int]
GRAY = ("gray",)

# As in the kernels.
_TABLES = np.dtype([("at", np.uint64), ("layout", np.int32, 3)], align=True)
_SCALING = np.dtype([("values", np.float32, (3, 3)), ("plane", np.int32, 3)])
_CHANNELS = np.dtype([("values", np.float32, (3, MAX_CHANNELS)), ("place", np.int32, MAX_CHANNELS)])
_DIVISOR = np.dtype([("multiplier", np.uint32), ("shift", np.int32), ("inverse", np.float32)])
_QUAD, _ROWS, _MAX_CLASSES = 4, 2, 256
_LARGEST = 32_000
"""Pixels of a side. Kernels compute where a pixel comes from in 31 bits."""

# A warp is 32 threads side by side in one row.
_BLOCK = (32, 4, 1)
_FLAT_BLOCK = (256, 1, 1)


class Launcher(Protocol):
    """Loaded kernels."""

    def launch(
        self, name: str, grid: Grid, block: Grid, arguments: Sequence[np.generic], stream: Any
    ) -> None:
        """Queue a kernel. It gets its arguments by value, structures as `np.void`."""


@dataclass(frozen=True)
class FilterTables:
    """The tables of a filter for frames of one size, as `resample` reads them on the device.

    content, layout: what `Tables` in kernels.cu points to, and its other fields.
    """

    content: npt.NDArray[np.uint8]
    layout: tuple[int, int, int]


def lacks_kernels(spec: InputSpec) -> str:
    """What of an input the kernels cannot do; empty if they can do all.

    Windows are not the kernels' work: they are cut and put together on the host.

    Example:
        >>> from edgeunet.bundle.manifest import InputSpec
        >>> from edgeunet.runtime.gpu.kernels import lacks_kernels
        >>> lacks_kernels(InputSpec(64, 96))
        ''
    """
    if spec.statistics is not None:
        return f"no CUDA kernel measures images ({spec.statistics.describe()})"
    return f"no CUDA kernel has the filter {spec.filter}" if spec.filter == "torchvision" else ""


class Kernels:
    """Pre- and post-processing of one bundle on a GPU, see kernels.cu.

    The results equal those of `Preprocessor`, `Postprocessor` and `overlay`. Methods only queue
    work.

    Args:
        thresholds: of the gate, None if the net has none.

    Raises:
        BackendError: an input that the kernels cannot prepare, see `lacks_kernels`.
    """

    def __init__(
        self,
        module: Launcher,
        spec: InputSpec,
        *,
        thresholds: Sequence[float] | None,
        palette: Sequence[tuple[int, int, int]],
    ) -> None:
        if lacking := lacks_kernels(spec):
            raise BackendError(f"{lacking}. Use --backend onnxruntime.")
        self._module = module
        self._spec = spec
        self._classes = len(palette)
        self._gated = thresholds is not None
        tables = np.stack([*scaling(spec), padding(spec)])
        self._scaling = _scaling(spec, tables)
        self._channels = _channels(spec, tables)
        self._thresholds = _table(np.float32, (_MAX_CLASSES,), thresholds or ())
        self._palette = _table(np.uint8, (_MAX_CLASSES, 3), palette)

    def preprocess(
        self,
        frames: int,
        size: Size,
        *,
        count: int,
        images: int,
        dtype: npt.DTypeLike,
        stream: Any,
        frame_dtype: npt.DTypeLike = np.uint8,
        channels: int = len(RGB),
    ) -> None:
        """Frames (count, *size, channels) -> images (count, C, height, width), FP16 or FP32.

        Args:
            frame_dtype: uint8, uint16, int16 or FP32. channels: of the frames.

        Raises:
            FrameError: a side of the frames is longer than 32,000 pixels.
        """
        spec, kind = self._spec, np.dtype(frame_dtype)
        fitted = spec.fitted_size(*size)
        place, divisors = self._place(size), _divisors(fitted, size)
        colours = kind == np.uint8 and channels == len(RGB)
        if colours and self._scaling is not None and size[1] > 1:  # it reads pixels in pairs
            self._module.launch(
                f"preprocess_{np.dtype(dtype)}",
                _grid(-(-spec.width // _QUAD), spec.height, count),
                _BLOCK,
                [*_addresses(frames, images), place, divisors, np.int32(spec.channels == GRAY),
                 self._scaling],
                stream,
            )  # fmt: skip
            return
        self._module.launch(
            f"preprocess_{kind}_{np.dtype(dtype)}",
            _grid(spec.width, spec.height, count),
            _BLOCK,
            [*_addresses(frames, images), place, divisors, np.int32(channels),
             np.int32(colours and spec.channels == GRAY), np.int32(len(spec.channels)),
             self._channels],
            stream,
        )  # fmt: skip

    def tables(self, size: Size) -> FilterTables | None:
        """What `resample` needs for frames of a size. None if `preprocess` does it: bilinear."""
        spec = self._spec
        if spec.filter == "bilinear":
            return None
        rows, columns, rows_first = tables(spec.filter, size, spec.fitted_size(*size))
        parts = (rows.start, columns.start, rows.weights, columns.weights.T)
        content = np.concatenate(
            [np.ascontiguousarray(part).view(np.uint8).ravel() for part in parts]
        )
        layout = (rows.weights.shape[1], columns.weights.shape[1], int(rows_first))
        return FilterTables(content, layout)

    def resample(
        self,
        frames: int,
        size: Size,
        tables: FilterTables,
        *,
        at: int,
        count: int,
        images: int,
        dtype: npt.DTypeLike,
        stream: Any,
        frame_dtype: npt.DTypeLike = np.uint8,
        channels: int = len(RGB),
    ) -> None:
        """As `preprocess`, by the tables that lie at the address `at`.

        Raises:
            FrameError: frames of another depth than the filter takes.
        """
        spec = self._spec
        check_depth(spec.filter, frame_dtype)
        kind = "bytes" if spec.filter in BYTE_FILTERS else str(np.dtype(frame_dtype))
        luma = spec.channels == GRAY and channels == len(RGB)
        self._module.launch(
            f"resample_{kind}_{np.dtype(dtype)}",
            _grid(spec.width, spec.height, count),
            _BLOCK,
            [*_addresses(frames, images), self._place(size),
             np.void(np.array((at, tables.layout), _TABLES).tobytes()), np.int32(channels),
             np.int32(luma), np.int32(len(spec.channels)), self._channels],
            stream,
        )  # fmt: skip

    def _place(self, size: Size) -> np.void:
        """Where frames of a size lie in the net's input."""
        spec = self._spec
        sides = (*size, spec.height, spec.width, *spec.fitted_size(*size), *spec.offset(*size))
        return _table(np.int32, (8,), sides)

    def postprocess(
        self,
        logits: int,
        dtype: npt.DTypeLike,
        *,
        rows: int = 0,
        presence: int = 0,
        presence_dtype: npt.DTypeLike = np.float32,
        logits_size: Size,
        count: int,
        masks: int,
        size: Size,
        stream: Any,
        confidence: int = 0,
    ) -> None:
        """Logits (R, C, *logits_size) -> masks (count, *size) uint8 of class ids.

        Args:
            dtype: FP16 or FP32, as `presence_dtype`.
            rows: (count,) int32, each frame's row of `logits`. -1 if the decoder did not run for
                the frame because at most one class is open. Address 0: frame n has row n.
            presence: (count, C) of `presence_dtype`. Address 0: no gate, all classes are open.
            confidence: (count, *size) uint8 as `Postprocessor.confidence`, 255 means 1. Address 0:
                not computed.

        Raises:
            FrameError: a side of the masks is longer than 32,000 pixels.
        """
        inside = covered(self._spec, logits_size, size)
        rows_and_columns = [part.stop - part.start for part in inside]
        # The kernel sees the part of the logits that covers the frame, and the whole as its stride.
        first = inside[0].start * logits_size[1] + inside[1].start
        logits += first * np.dtype(dtype).itemsize
        gate = presence if self._gated else 0
        kernel = "postprocess_confidence" if confidence else "postprocess"
        self._module.launch(
            f"{kernel}_{np.dtype(dtype)}",
            _grid(-(-size[1] // _QUAD), -(-size[0] // _ROWS), count),
            _BLOCK,
            [*_addresses(logits, rows, gate, masks, confidence),
             np.int32(np.dtype(presence_dtype) == np.float16), np.int32(self._classes),
             _table(np.int32, (6,), (*logits_size, *rows_and_columns, *size)),
             _divisors(size, size), self._thresholds],
            stream,
        )  # fmt: skip

    def overlay(
        self,
        frames: int,
        masks: int,
        *,
        out: int,
        count: int,
        size: Size,
        opacity: float = 0.5,
        stream: Any,
    ) -> None:
        """Blend frames (count, *size, 3) with the colours of masks (count, *size).

        `out` may be `frames`.
        """
        pixels = count * size[0] * size[1]
        self._module.launch(
            "overlay",
            (-(-pixels // (_QUAD * _FLAT_BLOCK[0])), 1, 1),
            _FLAT_BLOCK,
            [*_addresses(frames, masks, out), np.int64(pixels), np.float32(1 - opacity),
             np.float32(opacity), self._palette],
            stream,
        )  # fmt: skip


def _scaling(spec: InputSpec, tables: npt.NDArray[np.float32]) -> np.void | None:
    """Gain, shift and padding of red, green and blue or of the luma, and their planes.

    None if the net has other channels.
    """
    names = GRAY if spec.channels == GRAY else RGB
    if sorted(spec.channels) != sorted(names):
        return None
    planes = [spec.channels.index(name) for name in names]
    structure = np.zeros((), _SCALING)
    structure["values"][:, : len(planes)] = tables[:, planes]
    structure["plane"][: len(planes)] = planes
    return _void(structure)


def _channels(spec: InputSpec, tables: npt.NDArray[np.float32]) -> np.void:
    """Gain, shift and padding of each channel of the net, and its place in a frame."""
    names = spec.frame_channels if set(spec.channels) <= set(spec.frame_channels) else GRAY
    structure = np.zeros((), _CHANNELS)
    structure["values"][:, : len(spec.channels)] = tables
    structure["place"][: len(spec.channels)] = [names.index(name) for name in spec.channels]
    return _void(structure)


def _divisors(target: Size, frame: Size) -> np.void:
    """`Divisor` of pixels.cuh for twice each side of `target`.

    Raises:
        FrameError: a side of the frame is too long for the arithmetic of the kernels.
    """
    if max(frame) > _LARGEST:
        raise FrameError(
            f"expected frames of at most {_LARGEST:,} pixels a side on the GPU, got {frame[1]}x"
            f"{frame[0]}. Run them in tiles, or on the CPU."
        )
    structure = np.zeros(len(target), _DIVISOR)
    for place, side in zip(structure, target, strict=True):
        number = 2 * side
        bits = (number - 1).bit_length()
        place["multiplier"] = -(-(1 << (31 + bits)) // number)
        place["shift"] = bits - 1
        place["inverse"] = 1 / number
    return _void(structure)


def _addresses(*values: int) -> list[np.generic]:
    return [np.uint64(value) for value in values]


def _table(dtype: npt.DTypeLike, shape: tuple[int, ...], values: npt.ArrayLike) -> np.void:
    """A C structure that holds one array: the values, then zeros."""
    table = np.zeros(shape, dtype)
    given = np.asarray(values, dtype)
    if given.size:
        table[tuple(slice(length) for length in given.shape)] = given
    return _void(table)


def _void(array: npt.NDArray[Any]) -> np.void:
    """The bytes of an array, as a structure that a kernel takes by value."""
    structure: np.void = np.void(array.tobytes())
    return structure


def _grid(columns: int, rows: int, count: int) -> Grid:
    """Number of blocks, with one thread for each column and row of each frame."""
    return -(-columns // _BLOCK[0]), -(-rows // _BLOCK[1]), count
