"""Graphs with an open batch get one image; other open sides are refused."""

from __future__ import annotations

from typing import Any

import onnx
import pytest
from onnx import TensorProto, helper

from edgeunet.errors import GraphError
from edgeunet.exporting.npu.one_image import inputs_of, one_image


def graph(data: list[Any], result: list[Any]) -> onnx.ModelProto:
    ends = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
        for name, shape in (("data", data), ("weight", [1, 4, 1, 1]), ("result", result))
    ]
    weight = helper.make_tensor("weight", TensorProto.FLOAT, [1, 4, 1, 1], [1.0] * 4)
    node = helper.make_node("Mul", ["data", "weight"], ["result"])
    # Files before IR version 4 list weights among the inputs.
    made = helper.make_graph([node], "g", ends[:2], ends[2:], [weight])
    made.value_info.append(helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 2]))
    return helper.make_model(made)


def sides(value: onnx.ValueInfoProto) -> list[Any]:
    return [side.dim_value or side.dim_param for side in value.type.tensor_type.shape.dim]


def test_open_batch_becomes_one_wherever_its_name_stands() -> None:
    model = one_image(graph(["batch", 4, 8, 8], ["batch", 4, 8, "rows"]))
    assert sides(model.graph.input[0]) == [1, 4, 8, 8]
    assert sides(model.graph.output[0]) == [1, 4, 8, "rows"], "another name is not the batch"
    assert not model.graph.value_info, "shapes for another batch"


def test_fixed_batch_stays() -> None:
    assert sides(one_image(graph([2, 4, 8, 8], [2, 4, 8, 8])).graph.input[0]) == [2, 4, 8, 8]


@pytest.mark.parametrize("shape", [["batch", 4, "height", 8], ["batch", 4, 8, None]])
def test_other_open_side_is_refused_with_the_shape(shape: list[Any]) -> None:
    with pytest.raises(GraphError, match=r"'data' has the shape \(1, 4, .*Export it at one size"):
        one_image(graph(shape, shape))


def test_weights_are_no_inputs() -> None:
    assert [value.name for value in inputs_of(graph([1, 4, 8, 8], [1, 4, 8, 8]).graph)] == ["data"]
