"""The table in a terminal."""

from __future__ import annotations

from dataclasses import replace

import pytest

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


@pytest.mark.parametrize(("width", "narrow"), [(60, 60), (80, 80), (100, 100), (250, 100)])
def test_table_fits_a_terminal(width: int, narrow: int) -> None:
    long = row("openvino, a processor with a very long name FP32", 23456.789, iou_lost=-12.345)
    failed = replace(row("b FP32", None), problem="no " * 80)
    shown = table(report(*ROWS, long, failed, data="CamVid"), width=width)
    assert max(map(len, shown.splitlines())) <= narrow
    assert "points of mIoU on CamVid" in " ".join(shown.split())
    assert "no no no" in shown and "…" in shown


@pytest.mark.parametrize("width", [80, 100])
def test_names_of_depths_and_tiles_are_whole_and_what_is_left_out_is_told(width: int) -> None:
    rows = [
        replace(each, depth=4, tiled=tiled)
        for each in (row("onnxruntime INT8", 11.7, 0.99), row("openvino FP32", 12.0))
        for tiled in (False, True)
    ]
    shown = " ".join(table(report(*rows), width=width).split())
    assert "onnxruntime INT8, depth 4, tiles 11.70" in shown
    assert "onnxruntime INT8, depth 4 11.70" in shown
    assert ("No room here for net/s" in shown) == (width == 80)


def test_names_of_unknown_origin_are_escaped() -> None:
    assert "\x1b" not in table(report(weights="cells\x1b[2J"))
