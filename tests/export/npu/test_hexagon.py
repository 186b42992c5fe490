"""What Hexagon's compiler says of nodes, and what it leaves outside of its parts."""

from __future__ import annotations

import sys
from pathlib import Path

import onnx
import pytest
from onnx import TensorProto, helper

from edgeunet.errors import GraphError, MissingDependencyError, UnknownNameError
from edgeunet.exporting.npu.hexagon import (
    GENERATIONS,
    SOCS,
    Placed,
    Unit,
    compile_graph,
    find_generations,
    judged,
    read_units,
)

LOG = """\
2026-11-30 [V:onnxruntime:, qnn.cc:1 LogNodeSupport] Validation PASSED for 5 nodes in OrtNodeUnit (Conv) :
\tOperator type: DequantizeLinear Node name: x_DequantizeLinear Node index: 7
\tOperator type: DequantizeLinear Node name: w_DequantizeLinear Node index: 8
\tOperator type: Conv Node name: /stem/Conv Node index: 9

2026-11-30 [V:onnxruntime:, qnn.cc:1 LogNodeSupport] Validation FAILED for 1 nodes in OrtNodeUnit (Conv) :
\tOperator type: Conv Node name: /head/Conv_token_12 Node index: 10
\tREASON : Non-constant inputs
noise between
Validation PASSED for 1 nodes in OrtNodeUnit (Conv) :
\tOperator type: Conv Node name: /head/Conv Node index: 10

Validation PASSED for 1 nodes in OrtNodeUnit (Clip) :
\tOperator type: Clip Node name:  Node index: 11

Validation FAILED for 1 nodes in OrtNodeUnit (QuantizeLinear) :
\tOperator type: QuantizeLinear Node name: q Node index: 12
\tREASON : QNN EP is configured to not take Q nodes that consume a graph input.
"""  # noqa: E501


def test_log_tells_each_node_once_and_refusals_first() -> None:
    assert read_units(LOG) == (
        Unit("/stem/Conv", "Conv", pairs=True, reason=""),
        Unit("/head/Conv", "Conv", pairs=False, reason="Non-constant inputs"),
        Unit("", "Clip", pairs=False, reason=""),
    )


def test_log_of_something_else_tells_nothing() -> None:
    assert read_units("") == read_units("Validation FAILED for some reason (Conv)\n") == ()


def test_nodes_outside_and_weights_from_the_cpu_are_read_back() -> None:
    nodes = [
        helper.make_node("DequantizeLinear", ["w", "s"], ["w_float"]),
        helper.make_node("EPContext", ["image", "w_float", "late"], ["a"]),
        helper.make_node("Softmax", ["a"], ["b"]),
        helper.make_node("EPContext", ["b"], ["c"]),
    ]
    image = helper.make_tensor_value_info("image", TensorProto.FLOAT, [1])
    content = helper.make_model(helper.make_graph(nodes, "g", [image], [])).SerializeToString()
    placed = Placed.of(content)
    assert placed.parts == 2
    assert [node.op_type for node in placed.outside] == ["DequantizeLinear", "Softmax"]
    assert placed.fed == ("w_float", "late"), "not the image, nor what was made of it"


def test_socs_are_found_in_any_case_of_letters() -> None:
    assert find_generations("qcs6490") == ("v68",)
    assert find_generations("v73") == ("v73",)
    assert find_generations(None) == GENERATIONS
    assert set(SOCS.values()) == set(GENERATIONS)
    with pytest.raises(UnknownNameError, match=r"unknown SoC 'QCS6940'.*QCS6490"):
        find_generations("QCS6940")


def test_missing_compiler_is_told_with_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edgeunet.runtime.backends.providers.is_installed", lambda module: False)
    monkeypatch.setattr("onnxruntime.get_available_providers", lambda: ["CPUExecutionProvider"])
    with pytest.raises(MissingDependencyError, match=r"\.\[qnn\]"):
        compile_graph(b"", "v73")


def test_compiler_judges_each_node_and_its_prints_stay_away(
    int8_bundle: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("onnxruntime_qnn", reason="needs the extra [qnn]")
    content = (int8_bundle / "model.int8.qnn.onnx").read_bytes()
    units, made = judged(content, "v73")
    assert isinstance(made, bytes)
    convolutions = [unit for unit in units if unit.operator == "Conv"]
    assert convolutions and all(unit.pairs and not unit.reason for unit in convolutions)
    names = {node.name for node in onnx.load_from_string(content).graph.node}
    assert {unit.node for unit in convolutions} <= names
    sys.stderr.flush()
    assert capfd.readouterr() == ("", "")


def test_graph_that_it_gives_up_on_says_why() -> None:
    pytest.importorskip("onnxruntime_qnn", reason="needs the extra [qnn]")
    units, made = judged(b"no graph", "v73")
    assert units == () and isinstance(made, GraphError)
    assert "provider qnn does not compile it" in str(made)
