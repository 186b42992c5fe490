"""Frames and the reference graph -> the table, by the method that measures best."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import onnx

from edgeunet.bundle.calibration_table import CalibrationTable, Method
from edgeunet.errors import CalibrationError
from edgeunet.files import sha256
from edgeunet.models.checkpoints import Card

from .choose import best, score_methods
from .doctor import check_classes
from .frames import Frames, Selection
from .methods import METHODS, ranges_of
from .observe import Observation, activations, observe
from .sources import Drawn


def calibrate(
    graph: Path, selection: Selection, card: Card, *, method: Method | None
) -> CalibrationTable:
    """Calibrate the reference graph on the chosen frames.

    Args:
        method: None takes the one whose CPU graph is best on the frames held out, see `best`.

    Raises:
        CalibrationError: an activation that is not finite, or frames with a single class.
    """
    observation = observe(graph, selection.chosen, card.input)
    # Drawn frames hold all classes: a net that sees one is untrained, which they cannot help.
    if not isinstance(selection.chosen.source, Drawn):
        check_classes(observation.classes, card.classes)
    source = selection.chosen.source.name
    if method is not None:
        return make_table(graph, observation, method, model=card.model, source=source)
    tables = {
        tried: make_table(graph, observation, tried, model=card.model, source=source)
        for tried in METHODS
    }
    held_out = selection.held_out
    scores = score_methods(graph, tables, held_out, card.input, gate=card.gate)
    return replace(
        tables[best(scores)],
        compared_on=_compared_on(held_out, held_out.numbers == selection.chosen.numbers),
        scores=scores,
    )


def make_table(
    graph: Path, observation: Observation, method: Method, *, model: str, source: str
) -> CalibrationTable:
    """Table of one method."""
    return CalibrationTable(
        model=model,
        graph=sha256(graph),
        method=method,
        source=source,
        frames=observation.frames,
        ranges=ranges_of(observation.statistics, method),
    )


def check_table(table: CalibrationTable, graph: Path, *, model: str, path: Path) -> None:
    """CalibrationError unless a table read from `path` belongs to a graph and covers it."""
    found = sha256(graph)
    if table.graph != found:
        raise CalibrationError(
            f"{path} belongs to a graph of {table.model}, SHA-256 {table.graph[:12]}…; this export "
            f"makes one of {model}, {found[:12]}…. Ranges fit the very graph alone: same weights, "
            "size and depth, same versions of torch and edgeunet. Calibrate again with --calib."
        )
    missing = sorted({"image", *activations(onnx.load(graph))} - set(table.ranges))
    if missing:
        raise CalibrationError(
            f"{path} has no range for {missing[0]}"
            f"{f' and {len(missing) - 1} more' if len(missing) > 1 else ''}; it was changed. "
            "Calibrate again with --calib."
        )


def _compared_on(frames: Frames, same: bool) -> str:
    labels = "labelled" if frames.source.labelled else "unlabelled"
    kind = "that calibrated, for there are no others" if same else "held out"
    return f"{len(frames)} {labels} frames of {frames.source.name}, {kind}"
