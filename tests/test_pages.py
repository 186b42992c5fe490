"""Pages: what is put into a template is escaped, and pictures are within the page."""

from __future__ import annotations

import base64
from pathlib import Path

import jinja2
import numpy as np
import pytest

from edgeunet.data.images import decode
from edgeunet.pages import data_url, render


def test_values_are_escaped_and_missing_ones_an_error(tmp_path: Path) -> None:
    (tmp_path / "a.html").write_text("{% include 'b.html' %}{{ number | number('.1f') }}")
    (tmp_path / "b.html").write_text("<b>{{ name }}</b>")
    page = render(tmp_path / "a.html", name="<script>", number=None)
    assert page == "<b>&lt;script&gt;</b>–"
    page = render(tmp_path / "b.html", name="cells\u202e\x1b[1m")
    assert page == r"<b>cells\u202e\x1b[1m</b>"
    with pytest.raises(jinja2.UndefinedError):
        render(tmp_path / "a.html", number=1)


def test_picture_comes_back_in_its_colours() -> None:
    picture = np.zeros((4, 5, 3), np.uint8)
    picture[..., 0] = 200
    head, _, text = data_url("png", picture).partition(",")
    assert head == "data:image/png;base64"
    np.testing.assert_array_equal(decode(base64.b64decode(text), name="x").pixels, picture)
