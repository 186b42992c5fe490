"""A benchmark as one HTML page that needs nothing from elsewhere, from `templates/`."""

from __future__ import annotations

from pathlib import Path

from ..files import write_bytes
from ..pages import render
from .picture import Picture, draw
from .report import BenchmarkReport, Setting, front

_SIZES = {"wide": (920.0, 420.0), "narrow": (360.0, 430.0)}
"""Pixels of a picture, for a screen and for a phone: its text has the same size on both."""


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
            "pictures": pictures(setting, report.use[setting.title]),
        }
        for setting in report.settings
    ]
    page = render(
        Path(__file__).parent / "templates" / "benchmark.html",
        report=report,
        settings=settings,
        upwards="closer to the reference",
    )
    write_bytes(path, page.encode())


def pictures(
    setting: Setting, use: str, *, limit: float | None = None
) -> dict[str, Picture | None]:
    """The pictures of a setting for wide windows and for narrow ones; see `draw`."""
    return {
        name: draw(setting, use, width=width, height=height, limit=limit)
        for name, (width, height) in _SIZES.items()
    }
