"""The rate of INT8 products that ONNX Runtime reaches on this machine at best."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

SIDE = 1024
"""Rows, columns and depth of the product."""


def product(threads: int) -> Callable[[], object]:
    """A call of one big matrix product, unsigned activations by signed weights, all in cache."""
    rng = np.random.default_rng(0)
    left = rng.integers(0, 255, (SIDE, SIDE), np.uint8)
    right = numpy_helper.from_array(rng.integers(-127, 127, (SIDE, SIDE), np.int8), "right")
    graph = helper.make_graph(
        [helper.make_node("MatMulInteger", ["left", "right"], ["product"])],
        "peak",
        [helper.make_tensor_value_info("left", TensorProto.UINT8, left.shape)],
        [helper.make_tensor_value_info("product", TensorProto.INT32, left.shape)],
        [right],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    return lambda: session.run(None, {"left": left})


def peak(median_ms: float) -> float:
    """Multiply-adds a second, in units of 10^9, from the median of `product`."""
    return SIDE**3 / median_ms / 1e6
