"""The report as one HTML page that needs nothing from elsewhere."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from html import escape
from pathlib import Path

import cv2
import numpy as np

from ..files import write_bytes
from ..gate.report import ClassGate, GateReport
from ..metrics import Mask
from ..runtime.frames import Frame
from ..runtime.sinks import Palette, colourise
from .gate import GateParity
from .measure import WorstFrame
from .report import ParityReport
from .roc import Roc, roc_svg

_STYLE = """
:root { color-scheme: light dark; }
body { font: 15px/1.5 system-ui, sans-serif; max-width: 76rem; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.4rem; } h2 { font-size: 1.1rem; margin-top: 2rem; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { padding: .25rem .7rem; text-align: right; border-bottom: 1px solid #8884; }
th:first-child, td:first-child { text-align: left; }
.ok { color: #1a7f37; } .bad { color: #cf222e; font-weight: 600; }
.frames { display: grid; grid-template-columns: repeat(4, 1fr); gap: .5rem; }
.frames img { width: 100%; image-rendering: pixelated; border-radius: 4px; }
.frames h3 { grid-column: 1 / -1; margin: .8rem 0 0; font-size: .95rem; }
figure { margin: 0; } figcaption { font-size: .8rem; opacity: .75; }
.chip { display: inline-block; width: .8em; height: .8em; border-radius: 2px; margin-right: .4em;
        border: 1px solid #8888; }
"""


def write_html(
    path: Path, report: ParityReport, worst: Sequence[WorstFrame], palette: Palette
) -> None:
    """Write the page: verdict, stages, classes, and pictures of the worst frames."""
    failure = report.first_failure
    verdict = (
        '<span class="ok">all stages within tolerance</span>'
        if failure is None
        else f'<span class="bad">first out of tolerance: {escape(failure)}</span>'
    )
    title = f"{report.bundle}: parity with PyTorch"
    truth = "labels" if report.labelled else "PyTorch's own masks, for there were no labels"
    body = [
        f"<h1>{escape(title)}</h1><p>{verdict}</p>",
        f"<p>{escape(report.model)} {escape(report.weights)}, {report.precision} on "
        f"{escape(report.backend)}; {report.frames} frames of {escape(report.data)}; IoU against "
        f"{truth}.</p>",
        "<h2>Stages</h2>",
        _stages(report),
        _fallbacks(report),
        "<h2>Classes, IoU in percent</h2>",
        _classes(report, palette),
        "" if report.gate is None else gate_section(report.gate, palette),
        "<h2>Worst frames</h2>",
        *(_frame(frame, palette) for frame in worst),
        "<h2>Environment</h2><p>"
        + ", ".join(f"{escape(k)} {escape(v)}" for k, v in report.environment.items())
        + "</p>",
    ]
    page = (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>'
        f"<style>{_STYLE}</style></head><body>{''.join(body)}</body></html>\n"
    )
    write_bytes(path, page.encode())


def _stages(report: ParityReport) -> str:
    rows = [
        f"<tr><td>{escape(stage.name)}</td><td>{stage.agreement:.4%}</td><td>{stage.wanted:.2%}</td>"
        f"<td>{stage.miou:.2f}</td><td>{stage.drop:+.2f}</td><td>{_number(stage.allowed_drop)}</td>"
        f"<td>{stage.boundary:.2%}</td><td>{stage.logit_max:.3g}</td><td>{stage.logit_mean:.2g}</td>"
        + ('<td class="ok">ok</td></tr>' if stage.ok else '<td class="bad">out</td></tr>')
        for stage in report.stages
    ]
    return (
        "<table><tr><th>stage</th><th>pixels agree</th><th>wanted</th><th>mIoU</th><th>lost</th>"
        "<th>allowed</th><th>boundary F1</th><th>logit error max</th><th>mean</th><th></th></tr>"
        f"{''.join(rows)}</table>"
    )


def _fallbacks(report: ParityReport) -> str:
    if not report.fallbacks:
        return ""
    rows = [
        f"<tr><td>{escape(entry.layer)}</td><td>{entry.cost:.2g}</td><td>{entry.gain:+.2f}</td></tr>"
        for entry in report.fallbacks
    ]
    return (
        "<h2>Layers in float, because INT8 lost too much</h2><table><tr><th>layer</th><th>squared "
        "error of the logits over their variance, alone in INT8</th><th>points won back</th></tr>"
        f"{''.join(rows)}</table>"
    )


def _classes(report: ParityReport, palette: Palette) -> str:
    rows = [
        f'<tr><td><span class="chip" style="background:rgb{colour}"></span>{escape(name)}</td>'
        f"<td>{_number(reference)}</td><td>{_number(candidate)}</td>"
        f"<td>{_number(_lost(reference, candidate))}</td></tr>"
        for name, colour, reference, candidate in zip(
            report.classes, palette, report.reference_iou, report.candidate.iou, strict=True
        )
    ]
    return (
        f"<table><tr><th>class</th><th>PyTorch</th><th>{report.precision}</th><th>lost</th></tr>"
        f"{''.join(rows)}<tr><td><b>mean</b></td><td>{report.reference_miou:.2f}</td>"
        f"<td>{report.candidate.miou:.2f}</td><td>{report.candidate.drop:.2f}</td></tr></table>"
    )


def _lost(reference: float | None, candidate: float | None) -> float | None:
    return None if reference is None or candidate is None else reference - candidate


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.2f}"


def _frame(frame: WorstFrame, palette: Palette) -> str:
    pictures = {
        "frame": _jpeg(frame.image),
        "PyTorch": _png(colourise(frame.reference, palette)),
        "candidate": _png(colourise(frame.candidate, palette)),
        "difference": _png(_difference(frame.image, frame.reference, frame.candidate)),
    }
    figures = "".join(
        f'<figure><img src="{source}" alt="{label}"><figcaption>{label}</figcaption></figure>'
        for label, source in pictures.items()
    )
    return (
        f'<div class="frames"><h3>{escape(frame.name)}: {frame.agreement:.3%} of the pixels agree'
        f"</h3>{figures}</div>"
    )


def _difference(image: Frame, reference: Mask, candidate: Mask) -> Frame:
    """The frame in faint gray, pixels that differ in red."""
    gray = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY) // 3 + 150
    picture = np.repeat(gray[..., None].astype(np.uint8), 3, axis=2)
    picture[reference != candidate] = (220, 20, 40)
    return picture


def _png(picture: Frame) -> str:
    return _data_url(".png", picture, "image/png")


def _jpeg(picture: Frame) -> str:
    return _data_url(".jpg", picture, "image/jpeg")


def _data_url(suffix: str, picture: Frame, kind: str) -> str:
    encoded = cv2.imencode(suffix, np.ascontiguousarray(picture[..., ::-1]))[1]
    return f"data:{kind};base64,{base64.b64encode(encoded.tobytes()).decode()}"


def gate_section(gate: GateParity, palette: Palette) -> str:
    """HTML of the section; curves and table need labels."""
    parts = ["<h2>Gate</h2>"]
    parts += [f"<p>{escape(line[0].upper() + line[1:])}.</p>" for line in gate.lines().splitlines()]
    if gate.report is not None:
        parts += [_curves(gate, gate.report, palette), _table(gate.report, palette)]
    return "".join(parts)


def _curves(gate: GateParity, report: GateReport, palette: Palette) -> str:
    rocs = [
        Roc(entry.name, colour, curve, (1 - entry.closed_where_not, entry.open_where_held), auc)
        for entry, colour, curve in zip(report.classes, palette, gate.curves, strict=True)
        # A class that all frames hold, or none, has no curve.
        if (auc := entry.auc) is not None
        and entry.closed_where_not is not None
        and entry.open_where_held is not None
    ]
    return f"<figure>{roc_svg(rocs)}</figure>" if rocs else ""


def _table(report: GateReport, palette: Palette) -> str:
    rows = [_row(entry, colour) for entry, colour in zip(report.classes, palette, strict=True)]
    return (
        "<table><tr><th>class</th><th>threshold</th><th>AUC</th><th>pixels lost</th>"
        "<th>open where held</th><th>closed where not</th></tr>"
        f"{''.join(rows)}</table>"
    )


def _row(entry: ClassGate, colour: tuple[int, int, int]) -> str:
    auc = "–" if entry.auc is None else f"{entry.auc:.4f}"
    shares = (entry.lost, entry.open_where_held, entry.closed_where_not)
    cells = "".join(f"<td>{'–' if share is None else f'{share:.2%}'}</td>" for share in shares)
    return (
        f'<tr><td><span class="chip" style="background:rgb{colour}"></span>{escape(entry.name)}'
        f"</td><td>{entry.threshold:.4g}</td><td>{auc}</td>{cells}</tr>"
    )
