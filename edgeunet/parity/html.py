"""The report as one HTML page that needs nothing from elsewhere, from `templates/`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import cv2
import numpy as np

from ..confusion import confusion_of
from ..data.images import Rgb
from ..data.page import coloured
from ..files import write_bytes
from ..gate.confidence import CONFIDENCE
from ..metrics import Mask
from ..pages import data_url, render
from ..runtime.sinks import Palette, colourise
from .gate import GateParity
from .measure import WorstFrame
from .report import ParityReport
from .roc import Roc


def write_html(
    path: Path, report: ParityReport, worst: Sequence[WorstFrame], palette: Palette
) -> None:
    """Write the page: verdict, stages, classes, the gate, and pictures of the worst frames.

    Args:
        palette: colours of the classes on it; see also `in_safe_colours`.
    """
    judged = None if report.gate is None else report.gate.report
    page = render(
        Path(__file__).parent / "templates" / "parity.html",
        report=report,
        classes=[
            (name, colour, reference, candidate, _lost(reference, candidate))
            for name, colour, reference, candidate in zip(
                report.classes, palette, report.reference_iou, report.candidate.iou, strict=True
            )
        ],
        gate_classes=[] if judged is None else list(zip(judged.classes, palette, strict=True)),
        confusion=confusion_of(np.array(report.confusion), report.classes)
        if report.confusion
        else None,
        confidence=CONFIDENCE,
        rocs=[] if report.gate is None else list(_rocs(report.gate, palette)),
        frames=[(frame, _pictures(frame, palette, report.reference)) for frame in worst],
    )
    write_bytes(path, page.encode())


def write_index(path: Path, reports: Mapping[str, ParityReport]) -> None:
    """Write a page with a row for each report, and a link to `NAME/parity.html` beside it."""
    page = render(Path(__file__).parent / "templates" / "index.html", reports=reports)
    write_bytes(path, page.encode())


def _lost(reference: float | None, candidate: float | None) -> float | None:
    return None if reference is None or candidate is None else reference - candidate


def _rocs(gate: GateParity, palette: Palette) -> Iterator[Roc]:
    """Curves of the gate. A class that all labelled frames hold, or none, has no curve."""
    if gate.report is None:
        return
    for entry, colour, curve in zip(gate.report.classes, palette, gate.curves, strict=True):
        closed, opened, auc = entry.closed_where_not, entry.open_where_held, entry.auc
        if closed is not None and opened is not None and auc is not None:
            yield Roc(entry.name, colour, curve, (1 - closed, opened), auc)


def _pictures(frame: WorstFrame, palette: Palette, reference: str) -> dict[str, str]:
    """Pictures as `data:` URLs, by caption."""
    labels = frame.labels
    return {
        "frame": data_url("jpeg", frame.image),
        **({} if labels is None else {"labels": data_url("png", coloured(labels, tuple(palette)))}),
        reference: data_url("png", colourise(frame.reference, palette)),
        "candidate": data_url("png", colourise(frame.candidate, palette)),
        "difference": data_url("png", _difference(frame.image, frame.reference, frame.candidate)),
    }


def _difference(image: Rgb, reference: Mask, candidate: Mask) -> Rgb:
    """The frame in faint gray, pixels that differ in red."""
    gray = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY) // 3 + 150
    picture = np.repeat(gray[..., None].astype(np.uint8), 3, axis=2)
    picture[reference != candidate] = (220, 20, 40)
    return picture
