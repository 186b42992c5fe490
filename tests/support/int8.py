"""Reading INT8 graphs of a bundle."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import numpy_helper

from edgeunet.bundle.calibration_table import CalibrationTable, MethodScore
from edgeunet.bundle.manifest import flavour_file
from edgeunet.exporting.int8.calibration.observe import activations


def graph(bundle: Path, flavour: str) -> onnx.GraphProto:
    return onnx.load(bundle / flavour_file(flavour)).graph  # type: ignore[arg-type]


def constants(graph: onnx.GraphProto) -> dict[str, np.ndarray]:
    return {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}


TABLE = CalibrationTable(
    model="mobile_unet",
    graph="0" * 64,
    method="entropy",
    source="frames",
    frames=3,
    ranges={"image": (-1.5, 2.25), "logits": (0.0, 4.0)},
    compared_on="2 unlabelled frames of frames, held out",
    scores=(MethodScore("entropy", None, 0.99), MethodScore("minmax", 71.5, 0.98)),
)


def some_table(reference: Path) -> CalibrationTable:
    """Ranges that differ from tensor to tensor."""
    names = ["image", *activations(onnx.load(reference))]
    return CalibrationTable(
        model="any",
        graph="0" * 64,
        method="minmax",
        source="nowhere",
        frames=1,
        ranges={name: (-1.0 - index, 2.0 + index) for index, name in enumerate(names)},
    )
