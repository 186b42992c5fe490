"""Findings and reports."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx

from edgeunet.exporting.lint import Finding, LintReport, lint
from support.lint_graphs import Sketch
from support.lint_graphs.reports import reports

# Rules


def test_finding_names_the_node_and_says_what_to_do(tmp_path: Path) -> None:
    sketch = Sketch()
    sketch.node("Relu", [sketch.pair("data", zero=np.int8(5))])
    onnx.save(sketch.model(), tmp_path / "a.onnx")
    message = (
        "its zero point is not 0; TensorRT is symmetric. Quantize activations and weights "
        "symmetrically."
    )
    assert lint(tmp_path / "a.onnx", "trt10") == LintReport(
        "a.onnx",
        "trt10",
        (
            Finding("zero-point", "error", "data_dq_q.QuantizeLinear", message),
            Finding("zero-point", "error", "data_dq.DequantizeLinear", message),
        ),
    )


def test_node_without_a_name_is_named_by_what_it_makes(tmp_path: Path) -> None:
    sketch = Sketch()
    sketch.node("Rellu", ["data"])
    sketch.nodes[0].name = ""
    (found,) = reports(sketch.model(), tmp_path)["trt10"].findings
    assert found.node == "Rellu -> result"


# Report


def test_only_errors_spoil_a_report(tmp_path: Path) -> None:
    warned = Sketch()
    warned.shape = [1, 4, "height", 8]
    warned.node("Relu", ["data"])
    report = reports(warned.model(), tmp_path)["trt10"]
    assert report.findings
    assert report.ok
    warned.node("Rellu", ["data"], "other")
    assert not reports(warned.model(), tmp_path)["trt10"].ok


def test_table_shows_a_message_once_with_its_nodes() -> None:
    findings = tuple(Finding("r", "warning", f"n{index}", "all of them.") for index in range(5))
    report = LintReport("f.onnx", "rtx", (*findings, Finding("e", "error", "", "the file.")))
    assert report.table().splitlines() == [
        "f.onnx for rtx: 1 errors, 5 warnings",
        "  error e: the file.",
        "  warning r: all of them.",
        "    at n0, n1, n2 and 2 more",
    ]
