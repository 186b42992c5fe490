"""What graphs for the linter are drawn with."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

TENSORRT = {"trt8.6", "trt10", "trt11", "rtx"}
EVERY = TENSORRT | {"ort-cpu"}
ZERO = np.zeros((), np.int8)
TENTH = np.full((), 0.1, np.float32)


class Sketch:
    """A graph `data` (1, 4, 8, 8) -> `result`, drawn node by node."""

    def __init__(self, opset: int = 17, *, data: int = TensorProto.FLOAT) -> None:
        self.opset = opset
        self.data = data
        self.shape: list[Any] = [1, 4, 8, 8]
        self.result = TensorProto.FLOAT
        self.more_inputs: dict[str, list[Any]] = {}
        self.more_outputs: list[str] = []
        self.domains: tuple[str, ...] = ()
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []

    def node(self, op: str, inputs: Sequence[str], output: str = "result", **given: Any) -> str:
        self.nodes.append(helper.make_node(op, inputs, [output], name=f"{output}.{op}", **given))
        return output

    def constant(self, name: str, values: Any) -> str:
        self.constants.append(numpy_helper.from_array(np.asarray(values), name))
        return name

    def pair(
        self,
        source: str,
        scale: Any = TENTH,
        zero: Any = ZERO,
        *,
        name: str | None = None,
        **given: Any,
    ) -> str:
        """Q and DQ behind a tensor; the name of what comes out. zero: None leaves it out."""
        name = name or f"{source}_dq"
        inputs = [self.constant(f"{name}_scale", scale)]
        if zero is not None:
            inputs.append(self.constant(f"{name}_zero", zero))
        quantized = self.node("QuantizeLinear", [source, *inputs], f"{name}_q", **given)
        return self.node("DequantizeLinear", [quantized, *inputs], name, **given)

    def weights(self, axis: int | None = 0, name: str = "weights") -> str:
        """Weights (4, 4, 1, 1) behind Q/DQ with a scale for each channel; None writes no axis."""
        self.constant(name, np.ones((4, 4, 1, 1), np.float32))
        given = {} if axis is None else {"axis": axis}
        return self.pair(name, np.full(4, 0.1, np.float32), np.zeros(4, np.int8), **given)

    def enlarge(self, source: str, output: str = "result", **given: Any) -> str:
        """Resize to twice the height and width."""
        scales = self.constant("scales", np.array([1, 1, 2, 2], np.float32))
        return self.node("Resize", [source, "", scales], output, mode="linear", **given)

    def model(self) -> onnx.ModelProto:
        inputs = [
            helper.make_tensor_value_info(name, self.data, shape)
            for name, shape in {"data": self.shape, **self.more_inputs}.items()
        ]
        outputs = [
            helper.make_tensor_value_info(name, self.result, None)
            for name in ("result", *self.more_outputs)
        ]
        graph = helper.make_graph(self.nodes, "sketch", inputs, outputs, self.constants)
        opsets = [("", self.opset), *((domain, 1) for domain in self.domains)]
        return helper.make_model(
            graph, opset_imports=[helper.make_opsetid(*entry) for entry in opsets], ir_version=8
        )


Draw = Callable[[bool], Sketch]
"""Draws the graph that breaks a rule, or its good twin."""

Case = tuple[str, set[str], Draw]
"""A rule, the targets it holds for, and a graph."""
