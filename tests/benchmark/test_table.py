"""The table in a terminal."""

from __future__ import annotations

from dataclasses import replace

from edgeunet.benchmark.table import table
from support.benchmarks import ROWS, report, row


def test_table_marks_the_best_and_the_front_and_names_failures() -> None:
    lines = table(report()).splitlines()
    by_name = {line[4:].split("  ")[0]: line for line in lines if line[4:]}
    assert by_name["openvino INT8"].startswith(">* ")
    assert by_name["onnxruntime INT8"].startswith(" * ")
    assert by_name["NNCF on OpenVINO INT8"].startswith("  +")
    assert by_name["onnxruntime FP32"].startswith("   ")
    assert "it did not start" in by_name["onnxruntime xnnpack FP32"]
    assert "  ncnn: not installed: pip install ncnn" in lines
    (use,) = (line for line in lines if line.startswith("Use openvino INT8: 10.9 ms a frame"))
    assert lines.index(use) > lines.index(by_name["MNN FP32"])


def test_table_fits_a_terminal() -> None:
    long = row("openvino, a processor with a very long name FP32", 123456.789, iou_lost=-12.345)
    failed = replace(row("b FP32", None), problem="no " * 80)
    shown = table(report(*ROWS, long, failed, data="CamVid"))
    assert max(map(len, shown.splitlines())) <= 100
    assert "points of mIoU on CamVid" in shown
    assert "…" in shown


def test_names_of_unknown_origin_are_escaped() -> None:
    assert "\x1b" not in table(report(weights="cells\x1b[2J"))
