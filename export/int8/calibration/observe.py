"""Run frames through the reference graph and collect the statistics of every activation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto

from edgeunet.bundle.manifest import InputSpec
from edgeunet.errors import CalibrationError
from edgeunet.runtime.backends.ort import OrtNet
from edgeunet.runtime.backends.preprocess import Preprocessor
from edgeunet.runtime.frames import Frame
from edgeunet.steps import Count

from .ranges import IMAGE, Statistics

ELEMENTS_AT_ONCE = 1 << 26
"""Most activation values held at a time: 256 MB."""


@dataclass(frozen=True)
class Observation:
    """What the frames showed.

    statistics: by name of the activation, and of `image`. frames: their number. classes: ids that
    the net gave to at least one pixel.
    """

    statistics: dict[str, Statistics]
    frames: int
    classes: frozenset[int]


def observe(
    graph: Path,
    frames: Sequence[Frame],
    spec: InputSpec,
    *,
    count: Count = lambda done, total: None,
) -> Observation:
    """Run the reference graph on frames, one at a time, and collect statistics.

    Memory: ONNX Runtime's for one frame, at most `ELEMENTS_AT_ONCE` activation values (or the
    largest activation, if it has more), and 16 KB for each activation. If one frame has more
    activation values, the graph is run in parts, once over all frames for each part.

    Args:
        frames: fitted to the net; iterated over once for each part.
        count: called with what is done, and of how much.

    Raises:
        CalibrationError: no frame, or an activation that is not finite.
    """
    model = onnx.load(graph)
    prepare = Preprocessor(spec)
    statistics = {IMAGE: Statistics()}
    classes: set[int] = set()
    seen = 0
    parts = _parts(model)
    for part, names in enumerate(parts):
        net = _observed(model, names)
        statistics |= {name: Statistics() for name in names}
        for number, frame in enumerate(frames):
            image = prepare([frame])
            found = dict(zip(names, net.run(image), strict=True))
            if part == 0:
                seen += 1
                found[IMAGE] = image
            for name, values in found.items():
                if not statistics[name].add(values):
                    raise CalibrationError(
                        f"activation {name} is not finite on the calibration frames."
                    )
                if name == "logits":
                    classes |= set(np.unique(values.argmax(1)).tolist())
            count(part * len(frames) + number + 1, len(parts) * len(frames))
    if not seen:
        raise CalibrationError("there are no calibration frames; pass --calib DIR with images.")
    return Observation(statistics, seen, frozenset(classes))


def activations(model: onnx.ModelProto) -> dict[str, int]:
    """Float tensors that the nodes of a graph compute, and their number of elements per frame."""
    made = {name for node in model.graph.node for name in node.output}
    return {
        value.name: int(np.prod([max(1, d.dim_value) for d in value.type.tensor_type.shape.dim]))
        for value in [*model.graph.value_info, *model.graph.output]
        if value.type.tensor_type.elem_type == TensorProto.FLOAT and value.name in made
    }


def _parts(model: onnx.ModelProto) -> list[list[str]]:
    """Names of the activations, in groups that fit into memory."""
    parts: list[list[str]] = [[]]
    held = 0
    for name, elements in activations(model).items():
        held += elements
        if held > ELEMENTS_AT_ONCE and parts[-1]:
            parts.append([])
            held = elements
        parts[-1].append(name)
    return parts


def _observed(model: onnx.ModelProto, names: list[str]) -> OrtNet:
    """The net with these activations as its only outputs.

    ONNX Runtime keeps all outputs of a graph until a run ends, even those not requested.
    """
    known = {value.name: value for value in [*model.graph.value_info, *model.graph.output]}
    observed = onnx.ModelProto()
    observed.CopyFrom(model)
    del observed.graph.output[:]
    observed.graph.output.extend(known[name] for name in names)
    return OrtNet(observed.SerializeToString())
