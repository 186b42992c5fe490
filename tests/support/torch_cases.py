"""Graphs of one operator, as modules of PyTorch and in ONNX Runtime."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnxruntime
import torch
from onnx import TensorProto, helper, numpy_helper

from edgeunet.exporting.graphs.torch_module import TorchGraph

SHAPE = (1, 4, 6, 10)
RNG = np.random.default_rng(0)


def normal(*shape: int) -> np.ndarray:
    return RNG.normal(size=shape).astype(np.float32)


def ints(*values: int) -> np.ndarray:
    return np.array(values, np.int64)


def sizes(*values: float) -> np.ndarray:
    return np.array(values, np.float32)


X, P, B, F = "x", "p", "b", "f"
"""Inputs of the cases: (1, 4, 6, 10) of both signs; the same above 0; true or false; (4, 60)."""
_EACH = normal(1, 4, 1, 1)
_LINEAR = {"mode": "linear", "coordinate_transformation_mode": "half_pixel"}
_FLOOR = {"coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}

CASES: dict[str, list[tuple[list[Any], dict[str, Any]]]] = {
    **{
        name: [([X], {})]
        for name in (
            "Abs", "Ceil", "Elu", "Erf", "Exp", "Floor", "GlobalAveragePool", "GlobalMaxPool",
            "HardSigmoid", "HardSwish", "Identity", "Neg", "Reciprocal", "Relu", "Round", "Sigmoid",
            "Softplus", "Tanh",
        )
    },
    **{name: [([X, _EACH], {})] for name in ("Add", "Mul", "Sub", "Div", "PRelu")},
    **{
        name: [([X, np.float32(0.3)], {})]
        for name in ("Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual")
    },
    **{name: [([P], {})] for name in ("Log", "Sqrt")},
    **{name: [([X, _EACH, P], {})] for name in ("Max", "Min")},
    **{name: [([B, np.ones((4, 1, 1), bool)], {})] for name in ("And", "Or")},
    **{
        name: [([X], {"axes": [2, 3]}), ([X], {"axes": [-1], "keepdims": 0}), ([X], {})]
        for name in ("ReduceMax", "ReduceMean", "ReduceMin")
    },
    "ArgMax": [([X], {"axis": 1}), ([X], {"axis": -1, "keepdims": 0})],
    "AveragePool": [
        ([X], {"kernel_shape": [2, 2], "strides": [2, 2]}),
        ([X], {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1]}),
        ([X], {"kernel_shape": [3, 3], "pads": [0, 0, 1, 1], "count_include_pad": 1}),
    ],
    "BatchNormalization": [([X, normal(4), normal(4), normal(4), np.ones(4, np.float32)], {})],
    "Cast": [([X], {"to": TensorProto.INT32}), ([B], {"to": TensorProto.FLOAT})],
    "Clip": [([X, np.float32(0), np.float32(0.5)], {}), ([X, np.float32(-0.2)], {})],
    "Concat": [([X, P], {"axis": 1})],
    "Conv": [
        ([X, normal(8, 4, 3, 3), normal(8)], {"pads": [1, 1, 1, 1], "strides": [2, 2]}),
        ([X, normal(8, 1, 3, 3)], {"group": 4, "pads": [0, 0, 1, 1], "dilations": [2, 2]}),
        ([X, normal(3, 4, 3, 3)], {"auto_pad": "SAME_UPPER", "strides": [2, 2]}),
        ([X, normal(3, 4, 2, 2)], {"auto_pad": "SAME_LOWER"}),
    ],
    "ConvTranspose": [
        ([X, normal(4, 3, 2, 2), normal(3)], {"strides": [2, 2]}),
        (
            [X, normal(4, 1, 3, 3)],
            {"strides": [2, 2], "pads": [1, 1, 0, 0], "group": 4, "output_padding": [0, 0]},
        ),
    ],
    "DepthToSpace": [
        ([X], {"blocksize": 2, "mode": "DCR"}),
        ([X], {"blocksize": 2, "mode": "CRD"}),
    ],
    "Expand": [([X, ints(3, 1, 6, 1)], {})],
    "Flatten": [([X], {}), ([X], {"axis": 2})],
    "Gather": [([X, ints(2, -1, 0)], {"axis": 1}), ([X, np.int64(1)], {"axis": 3})],
    "Gemm": [
        ([F, normal(60, 5), normal(5)], {}),
        ([F, normal(5, 4)], {"transA": 1, "transB": 1}),
    ],
    "InstanceNormalization": [([X, normal(4), normal(4)], {})],
    "LayerNormalization": [([X, normal(10), normal(10)], {}), ([X, normal(6, 10)], {"axis": 2})],
    "LeakyRelu": [([X], {"alpha": 0.1})],
    "MatMul": [([X, normal(10, 5)], {})],
    "MaxPool": [
        ([X], {"kernel_shape": [2, 2], "strides": [2, 2]}),
        ([X], {"kernel_shape": [3, 3], "pads": [0, 0, 1, 1], "strides": [2, 2]}),
    ],
    "Not": [([B], {})],
    "Pad": [
        ([X, ints(0, 0, 1, 2, 0, 1, 3, 0), np.float32(1.5)], {}),
        ([X, ints(0, 0, 1, 2, 0, 0, 3, 0)], {"mode": "reflect"}),
        ([X, ints(0, 0, 1, 2, 0, 0, 3, 0)], {"mode": "edge"}),
    ],
    "Pow": [([P, np.float32(1.5)], {})],
    "ReduceSum": [([X, ints(1, -1)], {}), ([X, ints(2)], {"keepdims": 0})],
    "Reshape": [([X, ints(0, 2, -1, 10)], {})],
    "Resize": [
        ([X, None, sizes(1, 1, 2, 1.5)], _LINEAR),
        ([X, None, None, ints(1, 4, 3, 15)], _LINEAR),
        ([X, None, sizes(1, 3, 2, 1)], _LINEAR),  # channels come last
        ([X, None, sizes(1, 1, 2, 2)], {"mode": "linear",
          "coordinate_transformation_mode": "align_corners"}),
        ([X, None, sizes(1, 1, 2, 2)], {"mode": "nearest", **_FLOOR}),
        ([X, None, sizes(1, 1, 3, 2)], {"mode": "nearest"}),
        ([X, None, sizes(1, 1, 1, 1)], _LINEAR),
    ],
    "Slice": [
        ([X, ints(1, -4), ints(3, 2**40), ints(1, -1)], {}),
        ([X, ints(1), ints(-1), ints(2), ints(2)], {}),
        ([X, ints(-2), ints(-9), ints(3)], {}),
    ],
    "Softmax": [([X], {}), ([X], {"axis": 1})],
    "SpaceToDepth": [([X], {"blocksize": 2})],
    "Split": [([X, ints(1, 3)], {"axis": 1}), ([X], {"axis": 2})],
    "Squeeze": [([X, ints(0)], {}), ([X], {})],
    "Transpose": [([X], {"perm": [0, 2, 3, 1]})],
    "Unsqueeze": [([X, ints(0, -1)], {})],
    "Where": [([B, X, P], {})],
}  # fmt: skip


def operator_graph(op: str, inputs: list[Any], attributes: dict[str, Any]) -> onnx.ModelProto:
    """The operator behind what makes its inputs of `x`."""
    nodes = [
        helper.make_node("Mul", ["x", "x"], ["squared"]),
        helper.make_node("Add", ["squared", "small"], ["p"]),
        helper.make_node("Greater", ["x", "small"], ["b"]),
        helper.make_node("Flatten", ["x"], ["f"], axis=2),
    ]
    constants = [numpy_helper.from_array(np.float32(0.1), "small")]
    names = []
    for index, value in enumerate(inputs):
        if isinstance(value, np.ndarray | np.generic):
            constants.append(numpy_helper.from_array(np.asarray(value), f"c{index}"))
            names.append(f"c{index}")
        else:
            names.append(value or "")
    outputs = ["y", "z"] if op == "Split" else ["y"]
    nodes.append(helper.make_node(op, names, outputs, name="tested", **attributes))
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", *SHAPE[1:]])],
        [helper.make_empty_tensor_value_info(name) for name in outputs],
        constants,
    )
    opset = [helper.make_opsetid("", 17)]
    made = helper.make_model(graph, opset_imports=opset, ir_version=8)
    return onnx.shape_inference.infer_shapes(made)


def assert_operator(op: str) -> None:
    """The module gives in each case what ONNX Runtime gives."""
    x = RNG.normal(size=SHAPE).astype(np.float32)
    for inputs, attributes in CASES[op]:
        model = operator_graph(op, inputs, attributes)
        expected = onnxruntime.InferenceSession(model.SerializeToString()).run(None, {"x": x})
        found = TorchGraph(model)(torch.from_numpy(x))
        for wanted, tensor in zip(expected, found.values(), strict=True):
            assert tensor.shape == wanted.shape, (inputs, attributes)
            np.testing.assert_allclose(
                tensor.numpy().astype(np.float64), wanted.astype(np.float64), rtol=1e-4, atol=1e-5
            )
