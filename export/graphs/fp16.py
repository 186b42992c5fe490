"""FP32 graph -> FP16 in the graph, for strongly typed builders."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
from onnx import version_converter

from edgeunet.errors import ExportError

from .passes.graph import save

# Inputs whose type ONNX fixes at FP32, whatever the data is: roi and scales of Resize.
_FIXED_INPUTS = {"Resize": (1, 2)}
_LARGEST = float(np.finfo(np.float16).max)
SMALLEST = float(np.finfo(np.float16).smallest_subnormal)
"""Smallest scale that FP16 holds; smaller steps between scales do not exist either."""


def half(source: Path, path: Path, *, opset: int | None = None) -> None:
    """Write `source` with FP16 weights and activations; inputs and outputs stay FP32.

    Args:
        opset: convert to this opset first; QuantizeLinear takes FP16 from 19 on.

    Raises:
        ExportError: a weight or a scale that FP16 cannot hold.
    """
    proto = onnx.load(source)
    if opset is not None:
        proto = version_converter.convert_version(proto, opset)
    model = ir.from_proto(proto)
    fixed = {
        node.inputs[index]
        for node in model.graph
        for index in _FIXED_INPUTS.get(node.op_type, ())
        if index < len(node.inputs)
    }
    scales = {
        node.inputs[1]
        for node in model.graph
        if node.op_type in ("QuantizeLinear", "DequantizeLinear")
    }
    for value in model.graph.initializers.values():
        if value.dtype == ir.DataType.FLOAT and value not in fixed:
            value.const_value = _to_half(value, is_scale=value in scales)
            value.dtype = ir.DataType.FLOAT16
    for node in model.graph:
        if node.op_type == "Cast" and node.attributes["to"].value == ir.DataType.FLOAT:
            node.attributes.add(ir.AttrInt64("to", ir.DataType.FLOAT16))
        if node.op_type == "ConstantOfShape":
            _fill_with_half(node)
        for value in node.outputs:
            if not value.is_graph_output():
                value.type = value.shape = None  # inferred anew by `save`
    _cast_ends(model.graph)
    save(model, path)


def _to_half(value: ir.Value, *, is_scale: bool) -> ir.TensorProtocol:
    assert value.const_value is not None
    values, name = value.const_value.numpy(), str(value.name)
    largest = float(np.abs(values).max(initial=0.0))
    if largest > _LARGEST:
        raise ExportError(f"{name} holds {largest:g}; FP16 ends at {_LARGEST:g}. Use FP32.")
    if is_scale and float(values.min()) < SMALLEST:
        raise ExportError(f"{name} holds {values.min():g}, which is 0 in FP16. Use FP32.")
    return ir.tensor(values.astype(np.float16), name=name)


def _fill_with_half(node: ir.Node) -> None:
    """Let a ConstantOfShape make FP16 instead of FP32, which it does without a value too."""
    value = node.attributes.get("value")
    filled = np.zeros(1, np.float32) if value is None else value.as_tensor().numpy()
    if filled.dtype == np.float32:
        node.attributes.add(ir.AttrTensor("value", ir.tensor(filled.astype(np.float16))))


def _cast_ends(graph: ir.Graph) -> None:
    """Cast inputs to FP16 and outputs back to FP32: every flavour has the same interface."""
    for value in graph.inputs:
        cast = ir.node("Cast", [value], {"to": ir.DataType.FLOAT16}, name=f"{value.name}_to_fp16")
        cast.outputs[0].name = f"{value.name}_fp16"
        value.replace_all_uses_with(cast.outputs[0])
        cast.replace_input_with(0, value)
        graph.insert_before(graph[0], cast)
    for index, value in enumerate(graph.outputs):
        output = ir.val(value.name, type=value.type, shape=value.shape)
        graph.outputs[index] = output
        value.name, value.type, value.shape = f"{value.name}_fp16", None, None
        graph.append(
            ir.node(
                "Cast",
                [value],
                {"to": ir.DataType.FLOAT},
                outputs=[output],
                name=f"{output.name}_to_fp32",
            )
        )
