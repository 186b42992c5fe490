"""Return INT8 layers to float until the bundle loses no more than it may."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cache
from math import ceil
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from edgeunet.bundle.calibration_table import CalibrationTable
from edgeunet.bundle.card import Card
from edgeunet.bundle.manifest import Flavour, flavour_file
from edgeunet.parity import Fallback
from edgeunet.runtime.backends.ort import OrtNet
from edgeunet.runtime.sources.labelled import LabelledFrame

from ..graphs.passes.graph import load, producer
from .calibration.selection import thinned
from .emitters import COMPARED, CPU, Emitter, write_int8
from .judge import Judge, Loss
from .placement import int8_nodes

SAMPLES = 128
"""Frames that the search holds in memory and measures on, evenly spaced."""

RANKED_ON = 4
"""Frames that the layers are ranked on."""

SMALLEST_SHARE = 0.5
"""Share of the nodes that must stay in INT8 for the bundle to be called INT8."""


def hold_budget(
    folder: Path,
    table: CalibrationTable,
    samples: Iterable[LabelledFrame],
    card: Card,
    *,
    allowed: Loss,
    report: Callable[[str], None],
    source: Path | None = None,
) -> tuple[Fallback, ...]:
    """Rewrite the INT8 graphs in `folder` with as few layers in float as the budget needs.

    If no choice of layers keeps enough pixels, one is searched that holds the mIoU alone. If there
    is none either, or the mIoU holds as it is, the graphs stay unchanged.

    The layers are chosen for the graphs that lose more. The others keep those of them in INT8 that
    they do not need in float: each layer between INT8 ones costs conversions. The graph for QNN,
    which has no floats, takes 16 bits instead.

    Args:
        samples: frames to measure on.
        allowed: what may be lost.
        source: graph that the INT8 graphs are made of, None for the reference graph.

    Returns:
        The layers that are in float in a graph, the most costly first; empty if the graphs are
        unchanged.
    """
    reference = folder / flavour_file("fp32")
    held = thinned(samples, SAMPLES, kept=lambda sample: sample)
    judge = Judge(reference, held, card.input, gate=card.gate)
    source = source or reference
    nodes = tuple(int8_nodes(load(source)))

    with tempfile.TemporaryDirectory(prefix="edgeunet-") as scratch:
        path = Path(scratch) / "int8.onnx"

        @cache
        def losses(chosen: tuple[str, ...]) -> dict[Emitter, Loss]:
            """What each kind of graph loses with these nodes in INT8."""
            found = {}
            for emitter in COMPARED:
                emitter.quantize(source, path, table, nodes=chosen)
                found[emitter] = judge.loss(path, emitter.flavour)
            floats = f"{len(nodes) - len(chosen)} of {len(nodes)} nodes in float"
            report(f"{floats}: {_worst(found.values())}")
            return found

        report("INT8 loses too much; ranking its layers")
        whole = losses(nodes)
        worst = max(whole, key=lambda emitter: whole[emitter].beyond(allowed))
        ranked = rank_layers(source, table, judge.images[:RANKED_ON], emitter=worst)
        for aim in (allowed, replace(allowed, differ=100.0)):
            tried: list[tuple[str, ...]] = []

            def beyond(
                chosen: Sequence[str],
                aim: Loss = aim,
                tried: list[tuple[str, ...]] = tried,
            ) -> float:
                tried.append(tuple(chosen))
                return max(loss.beyond(aim) for loss in losses(tried[-1]).values())

            fewest = ceil(SMALLEST_SHARE * len(nodes))
            placement = find_float_layers(ranked, nodes, beyond, allowed=0.0, fewest=fewest)
            if placement.loss <= 0:
                break
        else:
            return ()
        cpu, tensorrt, openvino, qnn = (
            next(chosen for chosen in tried if losses(chosen)[emitter].beyond(aim) <= 0)
            for emitter in COMPARED
        )
    if placement.fallbacks:
        write_int8(
            folder, table, source=source, cpu=cpu, tensorrt=tensorrt, openvino=openvino, qnn=qnn
        )
    return placement.fallbacks


def _worst(losses: Collection[Loss]) -> str:
    points = max((loss.points for loss in losses if loss.points is not None), default=None)
    differ = f"{max(loss.differ for loss in losses):.2f} % of the pixels differ"
    return differ if points is None else f"{points:.2f} points lost, {differ}"


@dataclass(frozen=True)
class Placement:
    """Result of the search. nodes: names of those in INT8. loss: points that are still lost."""

    nodes: tuple[str, ...]
    fallbacks: tuple[Fallback, ...]
    loss: float


def find_float_layers(
    ranked: Iterable[tuple[Layer, float]],
    nodes: Sequence[str],
    loss_of: Callable[[Sequence[str]], float],
    *,
    allowed: float,
    fewest: int = 0,
) -> Placement:
    """Return layers to float, the most costly first, until the loss is allowed or none is left.

    A layer stays in INT8 if float does not reduce the loss.

    Args:
        ranked: layers and their costs, see `rank_layers`.
        nodes: names of all nodes that may run in INT8.
        loss_of: points lost with exactly these nodes in INT8.
        allowed: points that may be lost.
        fewest: number of nodes that must stay in INT8. The search stops before the first layer
            that would leave fewer.
    """
    kept, fallbacks = list(nodes), []
    loss = loss_of(kept)
    for layer, cost in ranked if loss > allowed else ():
        fewer = [name for name in kept if name not in layer.readers]
        if len(fewer) == len(kept):
            continue  # its readers are in float because of other layers
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
    """An activation and the nodes that return to float with it.

    name: of the node that outputs it. readers: names of the INT8 nodes that read it.
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
    reference: Path, table: CalibrationTable, images: Sequence[Images], *, emitter: Emitter = CPU
) -> list[tuple[Layer, float]]:
    """Layers and their costs, the most costly first, each measured with only its nodes in INT8.

    The cost is the squared error of the logits against FP32, divided by their variance. Wu et al.,
    "Integer Quantization for Deep Learning Inference" (arXiv 2004.09602), section 5.2, also measure
    one layer at a time.

    Args:
        images: net inputs (1, C, H, W); a handful is enough for the order.
        emitter: of the graph that loses too much. A layer may cost much in one kind of graph and
            nothing in another.
    """
    layers = layers_of(load(reference))
    wanted = _logits(reference, images, "fp32")
    power = float(wanted.var()) or 1.0
    costs = []
    with tempfile.TemporaryDirectory(prefix="edgeunet-") as folder:
        path = Path(folder) / "layer.onnx"
        for layer in layers:
            emitter.quantize(reference, path, table, nodes=layer.readers)
            error = _logits(path, images, emitter.flavour) - wanted
            costs.append((layer, float(np.square(error).mean()) / power))
    return sorted(costs, key=lambda entry: -entry[1])


def _logits(path: Path, images: Sequence[Images], flavour: Flavour) -> Images:
    net = OrtNet(path, flavour=flavour)
    return np.stack([net.infer(image).logits for image in images])
