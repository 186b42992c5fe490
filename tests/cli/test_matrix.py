"""`edgeunet bench --all`: what it prints, and options that it does not use."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgeunet.benchmark import matrix
from support.commands import data, fails, succeeds
from support.workers import HereWorker


@pytest.fixture
def _no_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Processes of their own are tested in `tests/benchmark/test_worker.py`."""
    monkeypatch.setattr(matrix, "Worker", HereWorker)


@pytest.mark.usefixtures("_no_processes")
def test_bench_all_prints_a_table_json_and_a_page(fp32_bundle: Path, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    shown = succeeds(
        "bench", fp32_bundle, "--all", "--threads", "1,2", "--html", page, "--precision", "fp32"
    )
    assert "1 thread, batch 1" in shown.stdout and "2 threads, batch 1" in shown.stdout
    assert "onnxruntime FP32" in shown.stdout
    assert "timing" in shown.stderr
    assert "Speed and accuracy, 2 threads, batch 1" in page.read_text()
    report = data("bench", fp32_bundle, "--all", "--threads", "1", "--precision", "fp32")
    assert report["settings"][0]["rows"][0]["p50"] > 0
    assert report["why"]["1 thread, batch 1"].startswith("use ")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--html", "page.html"), "--html needs --all."),
        (("--peers",), "--peers needs --all."),
        (("--tile",), "--tile needs --all."),
        (("--threads", "1,2"), "got --threads 1,2; expected one number. Add --all"),
        (("--threads", "0"), "threads is 0; expected at least 1"),
        (("--all", "--repeats", "3"), "got --repeats with --all. All rows get the same time."),
        (("--all", "--source", "x.png"), "got --source with --all. Pass frames as --data."),
        (("--all", "--backend", "pytorch"), "got --backend with --all. It times all of them."),
        (("--all", "--provider", "cuda"), "got --provider with --all. It times those"),
        (("--all", "--explain"), "got --explain with --all."),
        (("--all", "--overlap", "0.5"), "--overlap needs --tile."),
        (("--all", "--layout", "voc"), "got --layout voc without a data set."),
        (("--all", "--tile"), "fit into one tile of 64x96"),
        (("--all", "--batch", "9"), "batch is 9"),
    ],
)
def test_bench_refuses_options_that_it_does_not_use(
    arguments: tuple[str, ...], words: str, fp32_bundle: Path, tmp_path: Path
) -> None:
    assert words in " ".join(fails(2, "bench", fp32_bundle, *arguments).split())
