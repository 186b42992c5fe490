"""A graph as a module of PyTorch, for converters that take nothing else.

Of nets from libraries and of ONNX files a bundle keeps the graph alone. So converters get that for
our own nets too, with pre- and post-processing in it.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx
import onnx_ir as ir
import torch
from onnx_ir.passes.common import RemoveUnusedNodesPass
from torch import Tensor, nn

from edgeunet.errors import ExportError, printable

from .passes.clean import QuantizeConstants
from .passes.folding import FoldShapes
from .passes.graph import attribute, constant, of_type, operand, producer
from .torch_maps import Call, NotTakenError
from .torch_operators import OPERATORS, Operator

REMEDY = "`--to onnx` and `--to openvino` take the graph as it is."


class TorchGraph(nn.Module):
    """The module that computes a graph of one input, such as `frames`, for batches of one size.

    Tensors of FP16 are FP32 in it, with the values that FP16 left of them. What QuantizeLinear and
    DequantizeLinear do, PyTorch's `quantized_decomposed` does.

    Args:
        model: of opset 17 or newer. Only the batch may be open.
        rounded: whether the weights of Q/DQ graphs are integers already; otherwise the module
            quantizes them, as some converters expect.
        batch: images in each batch.
        operators: what computes the nodes, by operator.
        remedy: what errors say can be done.

    Raises:
        ExportError: an operator, or a form of one, that has no counterpart here.

    Example:
        >>> from edgeunet.exporting import write_pixels
        >>> from edgeunet.exporting.graphs.torch_module import TorchGraph
        >>> from edgeunet.runtime import open_bundle
        >>> write_pixels(open_bundle(bundle), "fp32", "cells.onnx")
        >>> module = TorchGraph(onnx.load("cells.onnx"))
        >>> import torch
        >>> module(torch.zeros(1, 64, 96, 3, dtype=torch.uint8))["masks"].shape
        torch.Size([1, 64, 96])
    """

    def __init__(
        self,
        model: onnx.ModelProto,
        *,
        rounded: bool = True,
        batch: int = 1,
        operators: Mapping[str, Operator] = OPERATORS,
        remedy: str = REMEDY,
    ) -> None:
        super().__init__()
        self._operators, self._remedy = operators, remedy
        graph = _prepared(model, rounded=rounded, batch=batch).graph
        (self._input,) = graph.inputs
        self._outputs = {str(value.name): value for value in graph.outputs}
        self._nodes = list(graph)
        self._buffer_names: dict[ir.Value, str] = {}
        for node in self._nodes:
            if node.domain or node.op_type not in operators:
                name = f"{node.domain}.{node.op_type}".lstrip(".")
                raise ExportError(
                    f"the graph has {printable(name)} in {printable(node.name)}, which has no "
                    f"counterpart in PyTorch here. {remedy}"
                )
        zeros = {
            operand(node, 2)
            for node in self._nodes
            if node.op_type in ("DequantizeLinear", "QuantizeLinear")
        }
        for index, value in enumerate(graph.initializers.values()):
            assert value.const_value is not None
            held = value.const_value.numpy()
            if held.dtype == np.float16:
                held = held.astype(np.float32)
            if value in zeros:  # converters look for a buffer of this type, not for a cast
                held = held.astype(np.int64)
            self._buffer_names[value] = f"constant_{index}"
            # A copy: those of files cannot be written to, about which PyTorch warns.
            self.register_buffer(f"constant_{index}", torch.from_numpy(np.array(held, order="C")))

    def forward(self, frames: Tensor) -> dict[str, Tensor]:
        """The graph's input -> its outputs by name, in its order."""
        values = {value: getattr(self, name) for value, name in self._buffer_names.items()}
        values[self._input] = frames
        for node in self._nodes:
            try:
                found = self._operators[node.op_type](Call(node, values))
            except NotTakenError as error:
                raise ExportError(
                    f"{node.op_type} in {printable(node.name)} has {printable(error)}, which this "
                    f"conversion does not know. {self._remedy}"
                ) from None
            results = (found,) if isinstance(found, Tensor) else found
            values.update(zip(node.outputs, results, strict=False))
        return {name: values[value] for name, value in self._outputs.items()}


def _prepared(model: onnx.ModelProto, *, rounded: bool, batch: int) -> ir.Model:
    """For batches of one size, with constants in place of all that the size decides."""
    prepared = ir.from_proto(model)
    for value in prepared.graph.inputs:
        assert value.shape is not None
        value.shape = ir.Shape([batch, *value.shape[1:]])
    FoldShapes()(prepared)
    if rounded:
        QuantizeConstants()(prepared)
        _float_weights(prepared.graph)
    RemoveUnusedNodesPass()(prepared)
    _copy_dequantizers(prepared.graph)
    return prepared


def _float_weights(graph: ir.Graph) -> None:
    """Weights of convolutions whose results stay float, such as the head's, become float again.

    ExecuTorch has no convolution of integers for them, nor an operator that converts the weights.
    """
    for node in of_type(graph, "Conv", "ConvTranspose", "Gemm", "MatMul"):
        weight = producer(node.inputs[1], "DequantizeLinear")
        if weight is None or _is_quantized(node.outputs[0]):
            continue
        held, scale, zero = (constant(operand(weight, index)) for index in range(3))
        if held is None or scale is None or zero is None:
            continue
        shape = [1] * held.ndim
        if scale.size > 1:
            shape[attribute(weight, "axis", 1)] = -1
        values = (held.astype(np.float32) - zero.reshape(shape)) * scale.reshape(shape)
        value = ir.val(f"{node.name}_weight", const_value=ir.tensor(values.astype(np.float32)))
        graph.register_initializer(value)
        node.replace_input_with(1, value)


def _is_quantized(value: ir.Value) -> bool:
    """Whether a QuantizeLinear reads a value, or its activation."""
    return any(
        reader.op_type == "QuantizeLinear"
        or (reader.op_type in ("Relu", "Clip") and _is_quantized(reader.outputs[0]))
        for reader, _ in value.uses()
    )


def _copy_dequantizers(graph: ir.Graph) -> None:
    """One DequantizeLinear for each reader: converters look for one in front of each operator."""
    for node in list(graph):
        if node.op_type != "DequantizeLinear":
            continue
        _, *others = list(node.outputs[0].uses())
        for reader, index in others:
            copy = ir.node(
                node.op_type, node.inputs, attributes=node.attributes, name=f"{node.name}_{index}"
            )
            graph.insert_after(node, copy)
            reader.replace_input_with(index, copy.outputs[0])
