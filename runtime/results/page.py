"""Results as HTML for notebooks: the overlay, and what its classes cover. No script, no request."""

from __future__ import annotations

import base64
from collections import Counter
from collections.abc import Sequence
from html import escape
from typing import TYPE_CHECKING

import cv2
import numpy as np

from edgeunet.errors import printable

from ..sinks.pictures import encode_picture

if TYPE_CHECKING:
    from .result import FrameResult

_MOST = 4  # frames that are shown
_WIDEST = 640  # pixels of a picture
_CELL = "padding:2px 10px 2px 0;text-align:{}"


def page_of(results: Sequence[FrameResult]) -> str:
    """HTML of up to four results, whose pictures, of at most 640 pixels, stand in the page."""
    parts = [_frame(each) for each in results[:_MOST]]
    if (more := len(results) - _MOST) > 0:
        parts.append(f"<p>and {more} more frame{'s' if more > 1 else ''}</p>")
    return f"<div>{''.join(parts)}</div>"


def _frame(result: FrameResult) -> str:
    picture = result.overlay()
    height, width = picture.shape[:2]
    scale = min(1.0, _WIDEST / max(height, width))
    if scale < 1:
        size = max(1, round(width * scale)), max(1, round(height * scale))
        picture = np.asarray(cv2.resize(picture, size, interpolation=cv2.INTER_AREA), np.uint8)
    data = base64.b64encode(encode_picture(picture, ".jpg")).decode()
    name = escape(printable(result.frame.name or f"frame {result.frame.index}"))
    return (
        '<div style="display:flex;flex-wrap:wrap;gap:16px;align-items:flex-start;margin:8px 0">'
        f'<figure style="margin:0"><img alt="overlay" src="data:image/jpeg;base64,{data}" '
        'style="max-width:100%;display:block">'
        f"<figcaption>{name}, {width}×{height}</figcaption></figure>{_table(result)}</div>"
    )


def _table(result: FrameResult) -> str:
    """A line for each class that the mask holds, the largest first."""
    areas = np.bincount(result.mask.ravel(), minlength=256)
    regions = Counter(region.class_id for region in result.regions(background=True))
    there = [class_id for class_id in result.legend.ids(background=True) if areas[class_id]]
    rows = [
        _row(
            result.legend.palette[class_id],
            escape(printable(result.legend.classes[class_id])),
            f"{areas[class_id] / result.mask.size:.1%}",
            f"{regions[class_id]}",
        )
        for class_id in sorted(there, key=lambda class_id: -areas[class_id])
    ]
    head = _row(None, "class", "pixels", "regions")
    return f'<table style="border-collapse:collapse">{head}{"".join(rows)}</table>'


def _row(colour: tuple[int, int, int] | None, name: str, *numbers: str) -> str:
    shown = "" if colour is None else f"background:rgb({colour[0]},{colour[1]},{colour[2]});"
    frame = "" if colour is None else "border:1px solid #888;"
    swatch = f'<span style="{shown}{frame}display:inline-block;width:12px;height:12px"></span>'
    cells = [(swatch, "left"), (name, "left"), *((number, "right") for number in numbers)]
    return "<tr>{}</tr>".format(
        "".join(f'<td style="{_CELL.format(side)}">{text}</td>' for text, side in cells)
    )
