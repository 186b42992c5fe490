"""Reports as HTML pages that need nothing from elsewhere: templates, and pictures within them."""

from __future__ import annotations

import base64
from pathlib import Path

import cv2
import numpy as np
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from .data.images import Rgb
from .errors import printable_lines

_SHARED = Path(__file__).parent / "templates"


def render(template: Path, **values: object) -> str:
    """Fill a template; what is put into it is escaped, as are characters that cannot be printed.

    A name with one that turns the direction of writing would turn the text behind it too.

    It may include those beside it, and `page.css`, the style that all pages share.

    Example:
        >>> from pathlib import Path; from edgeunet.pages import render
        >>> _ = Path("page.html").write_text("<p>{{ name }}, {{ share | number('.1%') }}</p>")
        >>> render(Path("page.html"), name="<cells>", share=0.25)
        '<p>&lt;cells&gt;, 25.0%</p>'
    """
    environment = Environment(
        loader=FileSystemLoader([template.parent, _SHARED]),
        autoescape=True,
        finalize=printable_lines,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["number"] = _number
    return environment.get_template(template.name).render(values)


def data_url(kind: str, picture: Rgb) -> str:
    """`data:` URL of an RGB picture (H, W, 3) as "jpeg" or "png"."""
    encoded = cv2.imencode(f".{kind}", np.ascontiguousarray(picture[..., ::-1]))[1]
    return f"data:image/{kind};base64,{base64.b64encode(encoded.tobytes()).decode()}"


def _number(value: float | None, form: str) -> str:
    return "–" if value is None else format(value, form)
