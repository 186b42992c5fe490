"""`edgeunet bench`: what it times, and what it refuses to time."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from edgeunet.runtime.backends.candidates import Candidate
from edgeunet.runtime.backends.choice import Choice
from edgeunet.runtime.bench import Verdict
from edgeunet.runtime.options import LoadOptions
from support.commands import call, data, fails
from support.fake_providers import fake_provider
from support.media import write_video


def test_bench_times_every_batch(fp32_bundle: Path) -> None:
    report = data("bench", fp32_bundle, "--repeats", "3", "--batch", "1,2")
    assert [row["batch"] for row in report["batches"]] == [1, 2]
    for row in report["batches"]:
        assert set(row["stages"]) == {"preprocess", "infer", "postprocess", "sink"}
        for times in row["stages"].values():
            assert 0 < times["p50"] <= times["p90"] <= times["p99"]
        assert 0 < row["serial_rate"] < row["net_rate"]
    assert report["frame_size"] == [64, 96]
    assert report["peak_memory_mb"] > 10
    assert {"processor", "cores", "onnxruntime"} <= set(report["environment"])


def test_bench_decodes_a_source(fp32_bundle: Path, tmp_path: Path) -> None:
    source = write_video(tmp_path / "clip.mp4", 12)
    result = call("bench", fp32_bundle, "--repeats", "3", "--source", source)
    assert result.exit_code == 0, result.output
    for words in ("mobile_unet fp32 on onnxruntime", "decode", "p99", "frames/s through the net"):
        assert words in result.stdout


def test_bench_says_which_precision_to_use(int8_bundle: Path) -> None:
    report = data("bench", int8_bundle, "--repeats", "3")
    results = report["verdict"]["results"]
    assert [entry["precision"] for entry in results] == ["fp32", "fp16", "int8"]
    assert all(entry["latency_ms"] > 0 and entry["agreement"] > 0.98 for entry in results)
    use = report["verdict"]["use"]
    assert f"use {use.upper()}" in report["verdict"]["why"]
    # Another run may come to another verdict: the machine is not the same twice.
    assert re.search(
        "ms: use (FP32|FP16|INT8)", call("bench", int8_bundle, "--repeats", "1").output
    )
    alone = data("bench", int8_bundle, "--repeats", "1", "--precision", "fp32")
    assert alone["verdict"] is None
    assert alone["precision"] == "fp32"


@pytest.mark.parametrize(
    ("batch", "words"), [("1,x", "'1,x' is not a list"), ("1,9", "batch is 9"), ("0", "batch is 0")]
)
def test_bench_refuses_other_batches(fp32_bundle: Path, batch: str, words: str) -> None:
    assert words in fails(2, "bench", fp32_bundle, "--batch", batch)


def test_bench_reports_no_speed_of_a_wrong_bundle(wrong_bundle: Path) -> None:
    assert "of the golden pixels agree" in fails(1, "bench", wrong_bundle, "--repeats", "1")


def test_the_verdict_is_of_what_auto_chose(
    int8_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A provider is a part of what a backend is called, but no backend's name."""
    monkeypatch.setattr("edgeunet.runtime.backends.candidates._providers", lambda: ["cuda"])
    use = Candidate("onnxruntime", "fp16", "cuda")
    monkeypatch.setattr(
        "edgeunet.runtime.backends.opening.choose", lambda bundle, options: Choice(use, "")
    )
    with fake_provider("cuda"):
        report = data("bench", int8_bundle, "--repeats", "1", "--threads", "1")
    assert report["backend"] == "onnxruntime cuda"
    assert [each["precision"] for each in report["verdict"]["results"]] == ["fp32", "fp16"]


def test_the_verdict_is_of_the_threads_that_were_given(
    fp32_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = list[LoadOptions]()
    verdict = Verdict("fp32", "", ())
    monkeypatch.setattr(
        "edgeunet.cli.bench.compare_precisions",
        lambda bundle, backend, options: given.append(options) or verdict,
    )
    data("bench", fp32_bundle, "--repeats", "1", "--threads", "1")
    assert given == [LoadOptions(threads=1)]
