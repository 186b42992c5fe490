"""Conditions that passes check before and after."""

from __future__ import annotations

import onnx_ir as ir
import pytest

from edgeunet.exporting.graphs.passes import ResizeInFloat, ResizeToConv
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
