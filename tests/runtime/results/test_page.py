"""Results in notebooks."""

from __future__ import annotations

import base64
import io
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from edgeunet.runtime.frames import SourceFrame
from edgeunet.runtime.results import FrameResult
from edgeunet.runtime.results.page import page_of
from edgeunet.shapes.regions import Legend
from support.chromium import chromium
from support.masks import LEGEND


def result(size: tuple[int, int] = (40, 60), *, name: str = "a.png") -> FrameResult:
    mask = np.zeros(size, np.uint8)
    mask[: size[0] // 4] = 1
    mask[-1, ::2] = 2
    image = np.full((*size, 3), 100, np.uint8)
    return FrameResult(SourceFrame(3, name, image), mask, legend=LEGEND)


def pictures(page: str) -> list[Image.Image]:
    found = re.findall(r'src="data:image/jpeg;base64,([^"]+)"', page)
    return [Image.open(io.BytesIO(base64.b64decode(data))) for data in found]


def test_page_shows_the_overlay_and_what_classes_cover() -> None:
    page = result()._repr_html_()
    (picture,) = pictures(page)
    assert picture.size == (60, 40)
    red, _, blue = picture.getpixel((30, 4))  # type: ignore[misc]
    assert red > 150 > 100 > blue
    cells = re.findall(r"<td[^>]*>([^<]*)</td>", page)
    assert [cell for cell in cells if cell] == [
        *("class", "pixels", "regions"),
        *("background", "73.8%", "1", "cell", "25.0%", "1", "film", "1.2%", "30"),
    ]
    assert "a.png, 60×40" in page


def test_large_frames_are_shown_small_and_many_not_at_all() -> None:
    page = page_of([result((1000, 2000), name="")] * 6)
    assert [picture.size for picture in pictures(page)] == [(640, 320)] * 4
    assert "frame 3, 2000×1000" in page
    assert "and 2 more frames" in page
    assert "more frame" not in page_of([result()])


class Tags(HTMLParser):
    """The tags of a page; it fails if one is not closed."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: set[str] = set()
        self.feed(page)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: object) -> None:
        self.seen.add(tag)
        if tag != "img":
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_names_of_files_and_classes_are_text() -> None:
    evil = "<script>alert(1)</script>"
    legend = Legend(("background", evil, "film"), LEGEND.palette)
    tags = Tags(replace(result(name=f"{evil}.png"), legend=legend)._repr_html_())
    assert tags.seen == {"div", "figure", "img", "figcaption", "table", "tr", "td", "span"}


@pytest.mark.slow
def test_page_is_shown_by_a_browser_and_asks_for_nothing(tmp_path: Path) -> None:
    (tmp_path / "page.html").write_text(page_of([result()]), encoding="utf-8")
    with chromium(tmp_path / "profile") as page:
        page.open((tmp_path / "page.html").as_uri())
        assert page.wait("document.images.length && document.images[0].naturalWidth") == 60
        assert page.errors == []
        asked = [address for address in page.requests if not address.startswith("data:")]
        assert asked == [(tmp_path / "page.html").as_uri()]
