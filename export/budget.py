"""INT8 that loses too much: which layers go back to float, until it loses no more than it may."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable
from functools import cache
from math import ceil
from pathlib import Path

import onnx

from edgeunet.bundle.calibration_table import CalibrationTable
from edgeunet.bundle.manifest import flavour_file
from edgeunet.models.checkpoints import Card
from edgeunet.parity import Fallback, ParitySample

from .calibration.selection import thinned
from .fallback import fall_back
from .int8 import CPU, TENSORRT, Emitter, write_int8
from .masks import Judge
from .placement import int8_nodes
from .sensitivity import rank_layers

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
    nodes = tuple(int8_nodes(onnx.load(reference)))

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
