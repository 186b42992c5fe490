"""The gate's section of the report's page: what is skipped, ROC curves, a table of the classes."""

from __future__ import annotations

from html import escape

from ..gate.report import ClassGate, GateReport
from ..runtime.sinks import Palette
from .gate import GateParity
from .roc import Roc, roc_svg


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
