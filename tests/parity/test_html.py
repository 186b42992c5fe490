"""The page of the report."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from edgeunet.bundle.bundle import open_bundle
from edgeunet.parity import golden_samples, measure, write_html


def test_page_has_the_verdict_and_four_pictures_a_frame(fp32_bundle: Path, tmp_path: Path) -> None:
    bundle = open_bundle(fp32_bundle)
    report, worst = measure(bundle, golden_samples(bundle), data="<b>golden</b>")
    write_html(tmp_path / "parity.html", report, worst, bundle.manifest.palette)
    page = (tmp_path / "parity.html").read_text()
    assert page.count("<img ") == 4 * len(worst)
    assert "Confusion matrix" not in page and report.confusion == ()
    assert "budget not checked: no labels; pass --data" in page
    assert "within tolerance" not in page
    assert "Classes, IoU" not in page, "there is none without labels"
    assert "&lt;b&gt;golden&lt;/b&gt;" in page, "names are escaped"
    assert "http" not in page, "the page needs nothing from elsewhere"


def test_page_of_labelled_frames_has_the_classes(fp32_bundle: Path, tmp_path: Path) -> None:
    bundle = open_bundle(fp32_bundle)
    samples = [
        replace(s, labels=m)
        for s, m in zip(golden_samples(bundle), bundle.golden().masks, strict=True)
    ]
    report, worst = measure(bundle, samples, data="golden")
    write_html(tmp_path / "parity.html", report, worst, bundle.manifest.palette)
    page = (tmp_path / "parity.html").read_text()
    assert "all stages within tolerance" in page
    assert "Classes, IoU in percent" in page
    assert page.count("<img ") == 5 * len(worst), "the labels too"
    assert sum(map(sum, report.confusion)) == sum(mask.size for mask in bundle.golden().masks)
    assert "Rows are labels, columns what fp32 takes them for" in page
    assert "budget" not in page
