"""Findings of Hexagon's compiler: what it leaves to the CPU, or computes in float."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest
from onnx import TensorProto, helper

from edgeunet.errors import GraphError
from edgeunet.exporting.lint import LintReport, lint, qnn
from edgeunet.exporting.npu.hexagon import Unit
from support.lint_graphs import Sketch


@pytest.fixture(scope="module", autouse=True)
def _compiler() -> None:
    pytest.importorskip("onnxruntime_qnn", reason="needs the extra [qnn]")


def by_rule(report: LintReport) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for finding in report.findings:
        found.setdefault(f"{finding.severity} {finding.rule}", []).append(finding.node)
    return found


def test_graph_for_hexagon_has_no_finding(int8_bundle: Path) -> None:
    assert lint(int8_bundle / "model.int8.qnn.onnx", "qnn").findings == ()


def test_float_graph_is_told_once(int8_bundle: Path) -> None:
    assert by_rule(lint(int8_bundle / "model.fp32.onnx", "qnn")) == {"warning float-net": [""]}


def test_graph_for_tensorrt_is_float_on_hexagon(int8_bundle: Path) -> None:
    """A zero point of 0 keeps Relu and Clip out of the convolutions."""
    path = int8_bundle / "model.int8.onnx"
    found = by_rule(lint(path, "qnn"))
    names = {node.name for node in onnx.load(path).graph.node if node.op_type == "Conv"}
    assert set(found["warning in-float"]) <= names
    assert not lint(path, "qnn").ok


def test_operator_that_hexagon_lacks_is_named(tmp_path: Path) -> None:
    sketch = Sketch()
    sketch.node("Erf", ["data"], "a")
    sketch.node("Relu", ["a"])
    onnx.save(sketch.model(), tmp_path / "net.onnx")
    found = by_rule(lint(tmp_path / "net.onnx", "qnn"))
    assert found["warning on-cpu"] == ["a.Erf"]


@pytest.mark.parametrize("shape", [["batch", 4, "height", 8]])
def test_open_side_is_a_finding(tmp_path: Path, shape: list[object]) -> None:
    sketch = Sketch()
    sketch.shape = shape
    sketch.node("Relu", ["data"])
    onnx.save(sketch.model(), tmp_path / "net.onnx")
    (finding,) = lint(tmp_path / "net.onnx", "qnn").findings
    assert (finding.rule, finding.severity) == ("input", "error")
    assert "Export it at one size" in finding.message


def test_what_the_compiler_says_becomes_findings(
    monkeypatch: pytest.MonkeyPatch, int8_bundle: Path
) -> None:
    units = (
        Unit("/a/Conv", "Conv", pairs=True, reason="too large."),
        Unit("", "Softmax", pairs=False, reason="no such axis"),
        Unit("/b/Conv", "Conv", pairs=False, reason=""),
        Unit("/c/Add", "Add", pairs=False, reason=""),
    )
    nodes = [
        helper.make_node("EPContext", ["image", "w"], ["a"]),
        helper.make_node("EPContext", ["a"], ["b"]),
    ]
    image = helper.make_tensor_value_info("image", TensorProto.FLOAT, [1])
    made = helper.make_model(helper.make_graph(nodes, "g", [image], [])).SerializeToString()
    monkeypatch.setattr(qnn, "judged", lambda content, soc: (units, made))
    report = lint(int8_bundle / "model.int8.onnx", "qnn")
    assert by_rule(report) == {
        "error on-cpu": ["/a/Conv"],
        "warning on-cpu": ["Softmax"],
        "warning in-float": ["/b/Conv"],
        "warning cut": [""],
        "error fed-by-cpu": ["w"],
    }
    assert "is left to the CPU (Conv): too large. Write" in report.table()


def test_refusal_points_at_the_nodes_if_there_are_any(
    monkeypatch: pytest.MonkeyPatch, int8_bundle: Path
) -> None:
    refused = GraphError("provider qnn does not compile it: it ends.")
    for units, ending in (
        ((Unit("a", "Add", pairs=False, reason="no"),), "are why."),
        ((), "ends."),
    ):
        monkeypatch.setattr(qnn, "judged", lambda content, soc, u=units: (u, refused))
        report = lint(int8_bundle / "model.int8.onnx", "qnn")
        assert not report.ok and report.errors[-1].message.endswith(ending)
