"""The linter on the graphs of a bundle."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from edgeunet.bundle.manifest import FLAVOURS, Flavour, flavour_file
from edgeunet.errors import ExportError
from edgeunet.exporting.lint import lint, lint_all, lint_flavours
from edgeunet.exporting.lint.linter import TARGETS
from support.lint_graphs.reports import broken


@pytest.mark.parametrize("flavour", FLAVOURS["int8"])
def test_exported_graph_passes_for_its_targets(int8_bundle: Path, flavour: Flavour) -> None:
    for report in lint_all(int8_bundle / flavour_file(flavour), TARGETS[flavour]):
        assert report.errors == ()


def test_exported_graphs_fail_for_the_wrong_targets(int8_bundle: Path) -> None:
    """Also shows that the rules see what is in a whole net."""
    cpu = lint(int8_bundle / flavour_file("int8.cpu"), "trt10")
    assert {"signed", "int32-bias"} <= {found.rule for found in cpu.errors}
    half = lint(int8_bundle / flavour_file("int8.fp16"), "trt8.6")
    assert {"opset", "float32-scale"} <= {found.rule for found in half.errors}
    signed = lint(int8_bundle / flavour_file("int8"), "ort-cpu")
    assert "unfolded-activation" in broken(signed)


def test_graph_that_breaks_a_rule_ends_the_export_with_its_name(
    int8_bundle: Path, tmp_path: Path
) -> None:
    for flavour in FLAVOURS["int8"]:
        model = onnx.load(int8_bundle / flavour_file(flavour))
        if flavour == "int8":
            node = next(n for n in model.graph.node if n.op_type == "QuantizeLinear")
            shared = set(node.input[1:2])
            for tensor in model.graph.initializer:
                if tensor.name in shared:
                    zeros = np.zeros_like(numpy_helper.to_array(tensor))
                    tensor.CopyFrom(numpy_helper.from_array(zeros, tensor.name))
        onnx.save(model, tmp_path / flavour_file(flavour))
    lint_flavours(tmp_path, ["fp32", "fp16", "int8.fp16", "int8.cpu", "int8.openvino", "int8.qnn"])
    with pytest.raises(ExportError) as error:
        lint_flavours(tmp_path, FLAVOURS["int8"])
    text = str(error.value)
    assert text.startswith(f"model.int8.onnx breaks the rule scale of trt8.6 at {node.name}: ")
    assert text.endswith("No bundle was written.")
