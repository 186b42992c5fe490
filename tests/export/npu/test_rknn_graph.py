"""Hexagon's graph without what Rockchip's compiler does not know, computing the same in float."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper

from edgeunet.errors import GraphError
from edgeunet.exporting.npu.rknn_graph import rknn_graph

SCALE = {"narrow": 0.1, "wide": 0.001}
MIDDLE = {"narrow": 100, "wide": 32768}
KIND = {"narrow": TensorProto.UINT8, "wide": TensorProto.UINT16}


def graph(*pairs: str, shape: tuple[Any, ...] = ("batch", 3)) -> onnx.ModelProto:
    """`data` through pairs of Q and DQ, with a Neg behind each but the last."""
    nodes, constants, at = [], [], "data"
    for index, width in enumerate(pairs):
        names = [f"{part}{index}" for part in ("scale", "zero", "q", "dq", "neg")]
        constants += [
            helper.make_tensor(names[0], TensorProto.FLOAT, [], [SCALE[width]]),
            helper.make_tensor(names[1], KIND[width], [], [MIDDLE[width]]),
        ]
        for op, source, made in (
            ("QuantizeLinear", at, names[2]),
            ("DequantizeLinear", names[2], names[3]),
        ):
            nodes.append(helper.make_node(op, [source, *names[:2]], [made], domain="com.microsoft"))
        last = index == len(pairs) - 1
        at = "result" if last else names[4]
        if last:
            nodes[-1].output[0] = at
        else:
            nodes.append(helper.make_node("Neg", [names[3]], [at]))
    ends = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name in ("data", "result")
    ]
    made = helper.make_graph(nodes, "g", ends[:1], ends[1:], constants)
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("com.microsoft", 1)]
    return helper.make_model(made, opset_imports=opsets, ir_version=9)


def computed(model: onnx.ModelProto, data: list[float]) -> list[float]:
    session = onnxruntime.InferenceSession(model.SerializeToString())
    (result,) = session.run(None, {"data": np.array([data], np.float32)})
    return result[0].tolist()


@pytest.mark.parametrize(
    ("pairs", "left"),
    [
        (("narrow", "narrow"), 4),
        (("narrow", "wide"), 2),  # the result's
        (("wide", "narrow"), 2),
        (("wide", "wide", "narrow", "wide"), 2),
    ],
)
def test_pairs_of_16_bits_become_floats(pairs: tuple[str, ...], left: int) -> None:
    model = rknn_graph(graph(*pairs))
    kinds = Counter(node.op_type for node in model.graph.node)
    assert kinds["QuantizeLinear"] + kinds["DequantizeLinear"] == left
    assert {node.domain for node in model.graph.node} == {""}
    assert model.graph.input[0].type.tensor_type.shape.dim[0].dim_value == 1
    data = [0.5, -0.25, 3.14159]
    before, after = computed(graph(*pairs), data), computed(model, data)
    np.testing.assert_allclose(after, before, atol=len(pairs) * 0.001)


def test_two_pairs_in_a_row_are_both_left_out() -> None:
    model = graph("wide", "wide")
    neg = next(node for node in model.graph.node if node.op_type == "Neg")
    neg.op_type = "Identity"
    assert computed(rknn_graph(model), [0.12345, 1.0, -0.01]) == pytest.approx(
        [0.12345, 1.0, -0.01]
    )


def test_open_side_is_refused() -> None:
    with pytest.raises(GraphError, match="Export it at one size"):
        rknn_graph(graph("narrow", shape=(1, "width")))


def test_bundles_graph_keeps_its_8_bits(int8_bundle: Path) -> None:
    source = onnx.load(int8_bundle / "model.int8.qnn.onnx")
    wide = {each.name for each in source.graph.initializer if each.data_type == TensorProto.UINT16}
    assert wide, "or it tests nothing"
    kept = rknn_graph(onnx.load(int8_bundle / "model.int8.qnn.onnx")).graph
    pairs = [node for node in kept.node if node.op_type == "DequantizeLinear"]
    assert pairs and not any(wide & set(node.input) for node in pairs)
    onnx.checker.check_model(rknn_graph(source))
