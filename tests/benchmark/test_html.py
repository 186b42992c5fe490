"""The page: whole, escaped, and in need of nothing."""

from __future__ import annotations

import re
from pathlib import Path

from edgeunet.benchmark.html import write_html
from support.benchmarks import ROWS, report, row


def test_page_holds_all_and_needs_nothing(tmp_path: Path) -> None:
    path = tmp_path / "pages" / "page.html"
    write_html(path, report(bundle="<b>cells</b>"))
    page = path.read_text()
    assert "&lt;b&gt;cells&lt;/b&gt;" in page and "<b>cells" not in page
    assert not re.search(r"https?:|<script|src=", page)
    for each in ROWS:
        assert page.count(f"<td>{each.name.replace(chr(39), '&#39;')}") == 1
    assert page.count('<svg viewBox="0 0 ') == 2, "one for wide windows, one for narrow ones"
    assert page.count("<title>Speed and accuracy, 2 threads, batch 1</title>") == 2
    assert "prefers-color-scheme: dark" in page
    assert "Use openvino INT8: 10.9 ms" in page
    assert "it did not start" in page
    assert "<li>ncnn: not installed: pip install ncnn</li>" in page
    assert "mIoU lost" not in page, "there were no labels"
    assert set(re.findall(r'href="#(\w+)"', page)) <= set(re.findall(r'id="(\w+)"', page))


def test_page_of_labelled_frames_and_of_failures(tmp_path: Path) -> None:
    write_html(tmp_path / "a.html", report(row("a FP32", 5.0, iou_lost=-0.25), data="CamVid"))
    page = (tmp_path / "a.html").read_text()
    assert "mIoU lost" in page and "-0.25" in page and "CamVid" in page
    write_html(tmp_path / "b.html", report(row("a FP32", None)))
    page = (tmp_path / "b.html").read_text()
    assert '<svg viewBox="0 0 ' not in page
    assert "Nothing ran with right masks" in page
