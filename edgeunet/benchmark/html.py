"""A benchmark as one HTML page that needs nothing from elsewhere, from `templates/`."""

from __future__ import annotations

from pathlib import Path

from ..files import write_bytes
from ..pages import render
from .picture import draw
from .report import BenchmarkReport, front

_WIDE, _NARROW = (920.0, 420.0), (360.0, 430.0)
"""Pixels of the picture, for a screen and for a phone: its text has the same size on both."""


def write_html(path: Path, report: BenchmarkReport) -> None:
    """Write the page: what to use, the picture and the table of each setting, and how measured.

    Pictures come twice, for wide and for narrow windows, so that their text stays as large as the
    page's. Scripts are not needed, and colours follow the reader's scheme, light or dark.

    Args:
        path: replaced if it exists. report: names in it may be of unknown origin; they are escaped.
    """
    settings = [
        {
            "title": setting.title,
            "use": report.use[setting.title],
            "why": report.why[setting.title],
            "front": front(setting.rows),
            "rows": setting.rows,
            "pictures": {
                name: draw(setting, report.use[setting.title], width=width, height=height)
                for name, (width, height) in (("wide", _WIDE), ("narrow", _NARROW))
            },
        }
        for setting in report.settings
    ]
    page = render(
        Path(__file__).parent / "templates" / "benchmark.html", report=report, settings=settings
    )
    write_bytes(path, page.encode())
