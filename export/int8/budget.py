"""INT8 that loses too much: which layers go back to float, until it loses no more than it may."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from math import ceil
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from edgeunet.bundle.calibration_table import CalibrationTable
from edgeunet.bundle.manifest import flavour_file
from edgeunet.models.checkpoints import Card
from edgeunet.parity import Fallback, ParitySample
from edgeunet.runtime.backends.ort import open_session

from ..graphs.passes.graph import load, producer
from .calibration.selection import thinned
from .emitters import CPU, TENSORRT, Emitter, write_int8
from .judge import Judge
from .placement import int8_nodes

SAMPLES = 128
"""Frames that the search holds and judges by, evenly spaced."""

RANKED_ON = 4
"""Frames that the layers are ranked on."""

SMALLEST_SHARE = 0.5
"""Of the nodes, that must stay in INT8 for the bundle to be called so."""


def hold_budget(
    folder: Path,
    table: CalibrationTable,
    samples: Iterable[ParitySample],
    card: Card,
    *,
    allowed: float,
    report: Callable[[str], None],
) -> tuple[Fallback, ...]:
    """Rewrite the INT8 graphs in `folder` with layers in float, as few as the budget needs.

    They stay as they are where no choice of layers holds the budget.

    Args:
        samples: frames to judge by; with labels by mIoU, without by agreement with FP32.
        allowed: points of mIoU, or percent of the pixels, that may be lost.

    Returns:
        The layers in float, the costliest first.
    """
    reference = folder / flavour_file("fp32")
    held = thinned(samples, SAMPLES, kept=lambda sample: sample)
    judge = Judge(reference, held, card.input, gate=card.gate)
    nodes = tuple(int8_nodes(load(reference)))

    @cache
    def losses(chosen: tuple[str, ...]) -> dict[Emitter, float]:
        found = {}
        with tempfile.TemporaryDirectory(prefix="edgeunet-") as name:
            path = Path(name) / "int8.onnx"
            for emitter in (CPU, TENSORRT):
                emitter.quantize(reference, path, table, nodes=chosen)
                found[emitter] = judge.loss(path, as_written=emitter.as_written)
        floats = f"{len(nodes) - len(chosen)} of {len(nodes)} nodes in float"
        report(f"{floats}: {max(found.values()):.2f} points lost")
        return found

    report(f"INT8 loses more than {allowed:g} points; ranking its layers")
    whole = losses(nodes)
    worst = max(whole, key=whole.__getitem__)
    ranked = rank_layers(reference, table, judge.images[:RANKED_ON], emitter=worst)
    placement = fall_back(
        ranked,
        nodes,
        lambda chosen: max(losses(tuple(chosen)).values()),
        allowed=allowed,
        fewest=ceil(SMALLEST_SHARE * len(nodes)),
    )
    if placement.loss > allowed:
        return ()
    write_int8(folder, table, nodes=placement.nodes)
    return placement.fallbacks


@dataclass(frozen=True)
class Placement:
    """What runs where. nodes: names of those in INT8. loss: points that are still lost."""

    nodes: tuple[str, ...]
    fallbacks: tuple[Fallback, ...]
    loss: float


def fall_back(
    ranked: Iterable[tuple[Layer, float]],
    nodes: Sequence[str],
    loss_of: Callable[[Sequence[str]], float],
    *,
    allowed: float,
    fewest: int = 0,
) -> Placement:
    """Give layers back to float, the costliest first, until the loss is allowed or none is left.

    A layer whose fallback wins nothing back stays in INT8.

    Args:
        ranked: layers and their costs, see `rank_layers`.
        nodes: names of all nodes that may run in INT8.
        loss_of: points lost with exactly these nodes in INT8.
        allowed: points.
        fewest: nodes that must stay in INT8; the search ends in front of the layer that would
            leave fewer.
    """
    kept, fallbacks = list(nodes), []
    loss = loss_of(kept)
    for layer, cost in ranked if loss > allowed else ():
        fewer = [name for name in kept if name not in layer.readers]
        if len(fewer) == len(kept):
            continue  # its readers went with other layers
        if len(fewer) < fewest:
            break
        left = loss_of(fewer)
        if left < loss:
            fallbacks.append(Fallback(layer.name, cost, loss - left))
            kept, loss = fewer, left
        if loss <= allowed:
            break
    return Placement(tuple(kept), tuple(fallbacks), loss)


Images = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Layer:
    """An activation, and what goes back to float when it does.

    name: of the node that puts it out. readers: names of the nodes that would run in INT8 on it.
    """

    name: str
    readers: tuple[str, ...]


def layers_of(model: ir.Model) -> list[Layer]:
    """Activations that INT8 nodes read, in the graph's order."""
    chosen = set(int8_nodes(model))
    readers: dict[str, list[str]] = {}
    for node in model.graph:
        for value in node.inputs if node.name in chosen else ():
            if (made := producer(value)) is not None:
                readers.setdefault(str(made.name), []).append(str(node.name))
    return [Layer(name, tuple(nodes)) for name, nodes in readers.items()]


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
    layers = layers_of(load(reference))
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
