"""The page: whole, escaped, and in need of nothing."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

from edgeunet.tuning.page import write_page
from support.tuning import TRIED, outcome


def page(tmp_path: Path, **changes: object) -> str:
    path = tmp_path / "tune.html"
    write_page(path, replace(outcome(), **changes))  # type: ignore[arg-type]
    return path.read_text()


def test_page_holds_all_and_needs_nothing(tmp_path: Path) -> None:
    text = page(tmp_path)
    assert "&lt;b&gt;cells&lt;/b&gt;" in text and "<b>cells" not in text
    assert not re.search(r"https?:|<script|src=", text)
    assert text.count('<svg viewBox="0 0 ') == 2, "one for wide windows, one for narrow ones"
    assert text.count('<path class="limit"') == 3, "the target in both, and in the key"
    assert text.count('class="name used"') >= 1, "the choice, where there is room for its name"
    for each in TRIED:
        assert text.count(f"<td>{each.title}") == 1
    assert text.count('title="on the front"') == 2
    assert "It is fast." in text and "64x96-w8-full int8 could not" in text
    assert "--backend openvino --precision int8" in text
    assert "trained for\n  2 epochs" in text
    assert "nothing is both faster and more accurate" in text
    assert set(re.findall(r'href="#(\w+)"', text)) <= set(re.findall(r'id="(\w+)"', text))
    assert "1.50 ms, +0.50 points lost" in text


def test_page_of_a_search_that_trained_nothing(tmp_path: Path) -> None:
    text = page(tmp_path, tried=TRIED[2:], chosen=None, why="Too slow.", equal_epochs=0)
    assert '<svg viewBox="0 0 ' not in text
    assert "Too slow." in text
    assert "In the first rung" not in text
