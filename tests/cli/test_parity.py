"""`edgeunet parity`: its stages, and its exit code."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from edgeunet.data.cells import write_dataset
from edgeunet.data.palettes import safe_palette
from support.commands import call, data, fails, names


def test_parity_gives_every_stage(fp32_bundle: Path, tmp_path: Path) -> None:
    report = data("parity", fp32_bundle, "-o", tmp_path / "report")
    assert [stage["name"] for stage in report["stages"]] == [
        "preprocessing",
        "postprocessing",
        "fp32",
    ]
    assert report["ok"] is True
    assert report["first_failure"] is None
    assert all(stage["agreement"] >= 0.9999 for stage in report["stages"])
    assert json.loads((tmp_path / "report" / "parity.json").read_text()) == report
    assert (tmp_path / "report" / "parity.html").read_text().startswith("<!doctype html>")


def test_parity_of_a_wrong_bundle_fails_and_says_where(wrong_bundle: Path) -> None:
    result = call("parity", wrong_bundle)
    assert result.exit_code == 1
    assert "first out of tolerance: fp32" in result.stdout
    assert call("parity", wrong_bundle, "--backend", "pytorch").exit_code == 0


@pytest.mark.parametrize("output", ["file", "file/report"])
def test_parity_looks_at_its_output_first(tmp_path: Path, output: str) -> None:
    (tmp_path / "file").write_bytes(b"kept")
    message = fails(2, "parity", tmp_path / "no bundle", "-o", tmp_path / output)
    assert "file is a file" in message
    assert names(tmp_path) == ["file"]


def test_parity_leaves_no_lock(fp32_bundle: Path, tmp_path: Path) -> None:
    assert call("parity", fp32_bundle, "-o", tmp_path / "report").exit_code == 0
    assert names(tmp_path) == ["report"]
    assert names(tmp_path / "report") == ["parity.html", "parity.json"]


def test_several_bundles_get_a_page_each_and_one_that_lists_them(
    fp32_bundle: Path, wrong_bundle: Path, tmp_path: Path
) -> None:
    result = call("parity", fp32_bundle, wrong_bundle, "-o", tmp_path / "report", "--json")
    assert result.exit_code == 1, "one is wrong"
    assert [report["ok"] for report in json.loads(result.stdout)] == [True, False]
    assert names(tmp_path / "report") == ["index.html", "tiny-fp32", "wrong"]
    assert names(tmp_path / "report" / "wrong") == ["parity.html", "parity.json"]
    page = (tmp_path / "report" / "index.html").read_text()
    assert '<a href="tiny-fp32/parity.html">' in page
    assert page.count('class="ok"') == page.count('class="bad"') == 1
    assert "first out of tolerance: fp32" in page


def test_bundles_that_cannot_be_told_apart_are_refused(fp32_bundle: Path, tmp_path: Path) -> None:
    message = fails(2, "parity", fp32_bundle, tmp_path / "other" / fp32_bundle.name)
    assert "have the same name" in message


def test_deployment_belongs_to_one_bundle(fp32_bundle: Path, tmp_path: Path) -> None:
    message = fails(2, "parity", fp32_bundle, tmp_path, "--deployed", tmp_path / "rk")
    assert "--deployed belongs to one bundle" in message


def test_page_has_colours_for_all_or_the_bundles_own(fp32_bundle: Path, tmp_path: Path) -> None:
    own = json.loads((fp32_bundle / "manifest.json").read_text())["palette"][1]
    for palette in ("safe", "own"):
        call(
            "parity", fp32_bundle, "--data", samples(tmp_path), "-o", tmp_path, "--palette", palette
        )
        page = (tmp_path / "parity.html").read_text()
        assert (f"rgb({', '.join(map(str, own))})" in page) == (palette == "own")
        assert f"rgb{safe_palette(2)[0]}" in page or palette == "own"


def samples(folder: Path) -> Path:
    """A data set of two frames a split."""
    data = folder / "data"
    if not data.exists():
        write_dataset(data, train=2, val=2, height=64, width=96, seed=1)
    return data
