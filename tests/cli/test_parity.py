"""`edgeunet parity`: its stages, and its exit code."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

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
