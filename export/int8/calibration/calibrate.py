"""Frames and the reference graph -> the calibration table, by the method that measures best."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import onnx

from edgeunet.bundle.calibration_table import CalibrationTable, Method, MethodScore
from edgeunet.bundle.card import Card
from edgeunet.bundle.manifest import flavour_file
from edgeunet.errors import CalibrationError, DatasetError
from edgeunet.files import sha256
from edgeunet.runtime.sources.labelled import LabelledFrame
from edgeunet.steps import Count, count_of

from ..emitters import RANGED
from ..judge import Judge
from .check_frames import check_classes
from .frames import FrameSet, Selection
from .observe import Observation, activations, observe
from .ranges import IMAGE, METHODS, ranges_of


def calibrate(
    graph: Path,
    selection: Selection,
    card: Card,
    *,
    method: Method | None,
    folder: Path | None = None,
    report: Callable[[str], None] = lambda step: None,
) -> CalibrationTable:
    """Calibrate the reference graph on the chosen frames.

    Args:
        method: None chooses the one whose worst graph is best on the held-out frames, see `best`.
        folder: receives the graphs that a method was chosen by, see `score_methods`.
        report: called with the name of each step.

    Raises:
        CalibrationError: an activation is not finite, or the net sees a single class.
        DatasetError: a mask and its frame differ in size.
    """
    report(f"calibration on {len(selection.chosen)} frames")
    count = count_of(report)
    observation = observe(graph, selection.chosen.frames, card.input, count=count)
    # Procedural frames hold all classes: a net that sees only one there is untrained.
    if not selection.procedural:
        check_classes(observation.classes, card.classes)
    source = selection.chosen.name
    table = make_table(graph, observation, method or METHODS[0], model=card.model, source=source)
    if method is not None:
        return table
    held_out = selection.held_out
    report(f"comparing {len(METHODS)} methods on {len(held_out)} frames")
    tables = {
        tried: replace(table, method=tried, ranges=ranges_of(observation.statistics, tried))
        for tried in METHODS
    }
    judge = Judge(graph, labelled_samples(held_out), card.input, gate=card.gate)
    scores = score_methods(judge, tables, folder, count=count)
    labels = "unlabelled" if held_out.mask is None else "labelled"
    same = held_out.numbers == selection.chosen.numbers
    kind = "the same that calibrated (there are no others)" if same else "held out"
    compared_on = f"{len(held_out)} {labels} frames of {held_out.name}, {kind}"
    left_out = tuple(card.classes[index] for index in judge.left_out)
    return replace(tables[best(scores)], compared_on=compared_on, scores=scores, left_out=left_out)


def make_table(
    graph: Path, observation: Observation, method: Method, *, model: str, source: str
) -> CalibrationTable:
    """The table of one method."""
    return CalibrationTable(
        model=model,
        graph=sha256(graph),
        method=method,
        source=source,
        frames=observation.frames,
        ranges=ranges_of(observation.statistics, method),
    )


def check_table(table: CalibrationTable, graph: Path, *, model: str, path: Path) -> None:
    """Raise CalibrationError unless a table read from `path` belongs to a graph and covers it."""
    found = sha256(graph)
    if table.graph != found:
        raise CalibrationError(
            f"{path} belongs to a graph of {table.model}, SHA-256 {table.graph[:12]}…; this export "
            f"makes one of {model}, {found[:12]}…. Ranges fit only one graph: same weights, size "
            "and depth, same versions of torch and edgeunet; not if that export has equalised "
            "channels or trained INT8, see its parity.json. Calibrate again with --calib."
        )
    missing = sorted({IMAGE, *activations(onnx.load(graph))} - set(table.ranges))
    if missing:
        raise CalibrationError(
            f"{path} has no range for {missing[0]}"
            f"{f' and {len(missing) - 1} more' if len(missing) > 1 else ''}; the file was changed. "
            "Calibrate again with --calib."
        )


_SAME_MIOU = 0.1
"""IoU points that so few frames cannot tell apart. Measured on cells, the methods lie 0.08 apart,
and the one that agrees most with FP32 has the lowest mIoU."""


def score_methods(
    judge: Judge,
    tables: Mapping[Method, CalibrationTable],
    folder: Path | None = None,
    *,
    count: Count = lambda done, total: None,
) -> tuple[MethodScore, ...]:
    """Quantize the judge's reference graph with each method's table and compare the masks.

    A method is as good as the worse of its graphs, the CPU's and TensorRT's: symmetric ranges lose
    more by clipping than asymmetric ones, and one method made 12 dB on the CPU and -8 on TensorRT.

    A method's mIoU is capped at the reference's. On so few frames a gain from clipping is luck, and
    would hide the harm that it does: on magnetic_tile, entropy gains 4.5 points on the held-out
    frames, and flips 1.6 % of the pixels of the validation split.

    Args:
        folder: receives the two graphs of the best method, named as in a bundle; None for none.
        count: called with the number of graphs that were measured, and of all.
    """
    scores: list[MethodScore] = []
    with tempfile.TemporaryDirectory(prefix="edgeunet-", dir=folder) as scratch:
        for method, table in tables.items():
            tried = Path(scratch) / method
            tried.mkdir()
            found = []
            for emitter in RANGED:
                path = tried / flavour_file(emitter.flavour)
                emitter.quantize(judge.reference, path, table)
                found.append(judge.tally(path, emitter.flavour))
                count(len(scores) * len(RANGED) + len(found), len(tables) * len(RANGED))
            mious = [tally.miou for tally in found if tally.miou is not None]
            miou = round(100 * min(*mious, judge.miou), 3) if mious and judge.miou else None
            agreement = min(tally.agreement for tally in found)
            scores.append(MethodScore(method, miou, round(agreement, 6)))
        if folder is not None:
            for graph in (Path(scratch) / best(scores)).iterdir():
                graph.rename(folder / graph.name)
    return tuple(scores)


def best(scores: Sequence[MethodScore]) -> Method:
    """The method with the highest mIoU; among those within `_SAME_MIOU`, the highest agreement.

    Remaining ties go to the first in the order of `METHODS`.
    """
    top = max((score.miou for score in scores if score.miou is not None), default=None)
    rivals = [s for s in scores if top is None or (s.miou or 0.0) >= top - _SAME_MIOU]
    return max(rivals, key=lambda s: (s.agreement, -METHODS.index(s.method))).method


def labelled_samples(frames: FrameSet) -> Iterator[LabelledFrame]:
    """Frames with their labels, if they have any; DatasetError if two differ in size."""
    for number, frame in zip(frames.numbers, frames.frames, strict=True):
        labels = None if frames.mask is None else frames.mask(number)
        if labels is not None and labels.shape != frame.shape[:2]:
            raise DatasetError(
                f"frame {number} of {frames.name} is {frame.shape[0]}x{frame.shape[1]}, its mask "
                f"{'x'.join(map(str, labels.shape))}. They must have the same size."
            )
        yield LabelledFrame(str(number), frame, labels)
