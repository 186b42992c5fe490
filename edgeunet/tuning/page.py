"""A search as one HTML page that needs nothing else, with the picture of `bench --all`."""

from __future__ import annotations

from pathlib import Path

from ..benchmark.html import pictures
from ..benchmark.report import front
from ..files import write_bytes
from ..pages import render
from .outcome import Outcome
from .target import ROOM, duration


def write_page(path: Path, outcome: Outcome) -> None:
    """Write the page: what was chosen and why, the picture, all that was measured, and how.

    The picture shows what was trained, each configuration in every precision, and the target.

    Args:
        path: replaced if it exists. outcome: its names may be of unknown origin; they are escaped.

    Example:
        >>> from pathlib import Path
        >>> from edgeunet.tuning.page import write_page
        >>> write_page(Path("tune.html"), outcome)  # doctest: +SKIP
    """
    shown = outcome.setting()
    setting = {
        "title": f"{outcome.model} on {outcome.data}",
        "pictures": pictures(shown, outcome.use, limit=outcome.milliseconds),
    }
    page = render(
        Path(__file__).parent / "templates" / "tune.html",
        outcome=outcome,
        setting=setting,
        rows=sorted(outcome.tried, key=lambda each: each.fastest[1]),
        on_front={row.name for row in front(shown.rows)},
        raced=any(each.rungs for each in outcome.tried),
        room=ROOM - 1,
        upwards="more accurate",
        spent=duration(outcome.spent),
        budget=duration(outcome.budget),
    )
    write_bytes(path, page.encode())
