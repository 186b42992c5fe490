"""Conditions that passes check before and after."""

from __future__ import annotations

from pathlib import Path

import onnx_ir as ir
import pytest
from onnx import TensorProto, helper

from edgeunet.errors import ExportError
from edgeunet.exporting.graphs.passes import ResizeInFloat, ResizeToConv
from edgeunet.exporting.graphs.passes.graph import save
from support.passes import paired


def test_a_pass_that_reads_shapes_refuses_a_model_without_any() -> None:
    model = ir.from_proto(paired())
    with pytest.raises(ir.passes.PreconditionError, match="Run onnx's shape inference"):
        ResizeToConv()(model)


def test_a_pass_that_leaves_what_it_should_rewrite_is_an_error() -> None:
    class Idle(ResizeInFloat):
        def rewrite(self, node: ir.Node) -> None:
            pass

    with pytest.raises(ir.passes.PostconditionError, match="Idle left "):
        Idle()(ir.from_proto(paired()))


def test_a_graph_that_is_not_valid_is_not_written(tmp_path: Path) -> None:
    ends = [helper.make_tensor_value_info(name, 1, [2]) for name in "xy"]
    whole = helper.make_tensor("n", TensorProto.INT64, [2], [1, 2])
    graph = helper.make_graph(
        [helper.make_node("Add", ["x", "n"], ["y"])], "g", ends[:1], ends[1:], [whole]
    )
    model = ir.from_proto(helper.make_model(graph))
    with pytest.raises(ExportError, match=r"bad\.onnx would not be valid ONNX: .*Add"):
        save(model, tmp_path / "bad.onnx")
    assert not (tmp_path / "bad.onnx").exists()
