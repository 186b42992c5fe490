"""How much each activation costs in INT8, taken by itself."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx

from edgeunet.bundle.calibration_table import CalibrationTable

from .int8 import CPU, Emitter
from .placement import int8_nodes
from .session import open_session

Images = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Layer:
    """An activation, and what goes back to float when it does.

    name: of the node that puts it out. readers: names of the nodes that would run in INT8 on it.
    """

    name: str
    readers: tuple[str, ...]


def layers_of(model: onnx.ModelProto) -> list[Layer]:
    """Activations that INT8 nodes read, in the graph's order."""
    chosen = set(int8_nodes(model))
    constants = {tensor.name for tensor in model.graph.initializer}
    readers: dict[str, list[str]] = {}
    for node in model.graph.node:
        for name in node.input if node.name in chosen else ():
            if name and name not in constants:
                readers.setdefault(name, []).append(node.name)
    producer = {name: node.name for node in model.graph.node for name in node.output}
    return [Layer(producer[name], tuple(nodes)) for name, nodes in readers.items()]


def rank_layers(
    reference: Path,
    table: CalibrationTable,
    images: Sequence[Images],
    *,
    emitter: Emitter = CPU,
) -> list[tuple[Layer, float]]:
    """Layers by what they cost, the worst first: each one's INT8 nodes alone against FP32.

    The cost is the squared error of the logits over their variance. Wu et al., "Integer
    Quantization for Deep Learning Inference" (arXiv 2004.09602), section 5.2, measure one layer
    at a time likewise.

    Args:
        images: net inputs (1, C, H, W); a handful is enough for an order.
        emitter: of the graph that loses; what is costly in one may be free in another.
    """
    layers = layers_of(onnx.load(reference))
    wanted = _logits(reference, images)
    power = float(wanted.var()) or 1.0
    costs = []
    with tempfile.TemporaryDirectory(prefix="edgeunet-") as folder:
        path = Path(folder) / "layer.onnx"
        for layer in layers:
            emitter.quantize(reference, path, table, nodes=layer.readers)
            error = _logits(path, images, as_written=emitter.as_written) - wanted
            costs.append((layer, float(np.square(error).mean()) / power))
    return sorted(costs, key=lambda entry: -entry[1])


def _logits(path: Path, images: Sequence[Images], *, as_written: bool = False) -> Images:
    session = open_session(path, as_written=as_written)
    return np.stack([session.run(["logits"], {"image": image})[0] for image in images])
