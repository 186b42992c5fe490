"""Operators on maps give what ONNX Runtime gives, and forms without a counterpart are named."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from onnx import TensorProto, helper

from edgeunet.errors import ExportError
from edgeunet.exporting.graphs import torch_maps
from edgeunet.exporting.graphs.torch_module import TorchGraph
from edgeunet.exporting.graphs.torch_operators import OPERATORS
from support.torch_cases import SHAPE, X, assert_operator, ints, operator_graph, sizes

MAPS = [name for name, function in OPERATORS.items() if function.__module__ == torch_maps.__name__]


@pytest.mark.parametrize("op", MAPS)
def test_operator_gives_what_onnx_runtime_gives(op: str) -> None:
    assert_operator(op)


@pytest.mark.parametrize(
    ("op", "inputs", "attributes", "message"),
    [
        ("Einsum", [X], {"equation": "abcd->ab"}, "has Einsum in tested, which has no counterpart"),
        ("Resize", [X, None, sizes(1, 1, 2, 2)], {"mode": "cubic"}, "Resize in tested has cubic"),
        ("Resize", [X, None, sizes(1, 1, 2, 2)], {"nearest_mode": "ceil",
         "coordinate_transformation_mode": "asymmetric"}, "has nearest, asymmetric, ceil"),
        ("Slice", [X, ints(-1), ints(0), ints(3), ints(-1)], {}, "a step of -1"),
        ("Gather", [X, "computed"], {}, "indices that are computed"),
        ("Pad", [X, ints(0, 1, 0, 0, 0, 0, 0, 0)], {"mode": "reflect"}, "reflect of maps that"),
        ("MaxPool", [X], {"kernel_shape": [2, 2], "ceil_mode": 1}, "MaxPool in tested has ceil_mo"),
        ("Cast", [X], {"to": TensorProto.BFLOAT16}, "Cast in tested has type 16"),
    ],
)  # fmt: skip
def test_what_has_no_counterpart_is_named(
    op: str, inputs: list[Any], attributes: dict[str, Any], message: str
) -> None:
    model = operator_graph(op, inputs, attributes)
    if op == "Gather":
        cast = helper.make_node("Cast", ["x"], ["computed"], to=TensorProto.INT64)
        model.graph.node.insert(0, cast)
    with pytest.raises(ExportError, match=message) as refusal:
        TorchGraph(model)(torch.zeros(SHAPE))
    assert "`--to onnx`" in str(refusal.value)
