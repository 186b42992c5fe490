"""Calibration: frames -> ranges of all activations, one table for every INT8 graph."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
from onnx import TensorProto

from edgeunet.errors import CalibrationError
from edgeunet.files import IMAGE_SUFFIXES
from edgeunet.manifest import InputSpec
from edgeunet.runtime.preprocess import Frame, Preprocessor
from edgeunet.runtime.sources import read_image

CALIBRATION_FRAMES = 32
"""Frames taken of a longer list, evenly spaced: ranges settle before."""

_TAIL = 1e-4  # share of the values at either end that a frame's range leaves out
_SAMPLE = 200_000  # values looked at of one activation in one frame, evenly spaced
_ELEMENTS_AT_ONCE = 1 << 26  # activations held at a time: 256 MB

# A dead activation has no range, and no scale that FP16 can hold: it gets this one, which makes the
# symmetric scale the smallest normal FP16 number.
_NARROWEST = 127 * 2.0**-14


@dataclass(frozen=True)
class CalibrationTable:
    """Range (lowest, highest) of every activation of the reference graph, by tensor name."""

    ranges: dict[str, tuple[float, float]]
    frames: int


def calibration_files(folder: Path) -> list[Path]:
    """Images to calibrate with: of a data set its training images, else those in the folder.

    Raises:
        CalibrationError: no such folder, or no image in it.
    """
    images = folder / "train" / "images" if (folder / "dataset.json").is_file() else folder
    if not images.is_dir():
        raise CalibrationError(f"{images} is not a directory; one with images was wanted.")
    files = sorted(path for path in images.iterdir() if path.suffix.lower() in IMAGE_SUFFIXES)
    if not files:
        raise CalibrationError(f"{images} holds no image ({', '.join(sorted(IMAGE_SUFFIXES))}).")
    return evenly(files, CALIBRATION_FRAMES)


def evenly(items: Sequence[Path], count: int) -> list[Path]:
    """At most `count` items, evenly spaced, the first and the last among them."""
    if len(items) <= count:
        return list(items)
    return [items[round(index * (len(items) - 1) / (count - 1))] for index in range(count)]


def read_frames(files: Iterable[Path]) -> Iterator[Frame]:
    """Frames of the files, RGB."""
    for path in files:
        yield read_image(path)


def calibrate(graph: Path, frames: Iterable[Frame], spec: InputSpec) -> CalibrationTable:
    """Run the reference graph on frames and note the range of each activation.

    A frame's range leaves out the `_TAIL` most extreme values at either end, the table holds the
    widest of the frames: single outliers would otherwise cost all other values their resolution.

    Raises:
        CalibrationError: no frame, or an activation that is not finite.
    """
    session, groups = _observed(graph)
    prepare = Preprocessor(spec)
    ranges: dict[str, tuple[float, float]] = {}
    count = 0
    for frame in frames:
        count += 1
        image = prepare([frame])
        _widen(ranges, "image", image)
        for names in groups:
            for name, values in zip(names, session.run(names, {"image": image}), strict=True):
                _widen(ranges, name, values)
    if not count:
        raise CalibrationError("no calibration frame came; pass --calib DIR with images.")
    for node in onnx.load(graph).graph.node:
        if node.op_type == "DepthToSpace":
            # It only moves values: with another range behind it, it would run in float.
            ranges[node.output[0]] = ranges[node.input[0]]
    return CalibrationTable({name: _alive(limits) for name, limits in ranges.items()}, count)


def _observed(graph: Path) -> tuple[onnxruntime.InferenceSession, list[list[str]]]:
    """Session that can return every activation, and their names in groups that fit the memory."""
    model = onnx.load(graph)
    elements = {
        value.name: int(np.prod([max(1, d.dim_value) for d in value.type.tensor_type.shape.dim]))
        for value in [*model.graph.value_info, *model.graph.output]
        if value.type.tensor_type.elem_type == TensorProto.FLOAT
    }
    outputs = {value.name for value in model.graph.output}
    made = {name for node in model.graph.node for name in node.output}
    model.graph.output.extend(
        value
        for value in model.graph.value_info
        if value.name in elements and value.name in made - outputs
    )
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    groups: list[list[str]] = [[]]
    held = 0
    for value in session.get_outputs():
        held += elements[value.name]
        if held > _ELEMENTS_AT_ONCE and groups[-1]:
            groups.append([])
            held = elements[value.name]
        groups[-1].append(value.name)
    return session, groups


def _widen(
    ranges: dict[str, tuple[float, float]], name: str, values: npt.NDArray[np.float32]
) -> None:
    """Widen the range of one activation by what one frame shows."""
    flat = values.ravel()
    sample = flat[:: max(1, flat.size // _SAMPLE)]
    if not np.isfinite(sample).all():
        raise CalibrationError(f"activation {name} is not finite on the calibration frames.")
    lowest, highest = (float(v) for v in np.quantile(sample, [_TAIL, 1 - _TAIL]))
    before = ranges.get(name, (0.0, 0.0))  # a range holds 0, so that padding is exact
    ranges[name] = min(before[0], lowest), max(before[1], highest)


def _alive(limits: tuple[float, float]) -> tuple[float, float]:
    lowest, highest = limits
    if max(-lowest, highest) < _NARROWEST:
        return -_NARROWEST, _NARROWEST
    return lowest, highest
