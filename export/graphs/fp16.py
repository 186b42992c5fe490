"""FP32 graph -> FP16 in the graph, for strongly typed builders."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper, version_converter

from edgeunet.errors import ExportError

# Inputs whose type ONNX fixes at FP32, whatever the data is: roi and scales of Resize.
_FIXED_INPUTS = {"Resize": (1, 2)}
_LARGEST = float(np.finfo(np.float16).max)
_SMALLEST = float(np.finfo(np.float16).smallest_subnormal)


def half(source: Path, path: Path, *, opset: int | None = None) -> None:
    """Write `source` with FP16 weights and activations; inputs and outputs stay FP32.

    Args:
        opset: convert to this opset first; QuantizeLinear takes FP16 from 19 on.

    Raises:
        ExportError: a weight or a scale that FP16 cannot hold.
    """
    model = onnx.load(source)
    if opset is not None:
        model = version_converter.convert_version(model, opset)
    graph = model.graph
    fixed = {
        node.input[index]
        for node in graph.node
        for index in _FIXED_INPUTS.get(node.op_type, ())
        if index < len(node.input)
    }
    for tensor in graph.initializer:
        if tensor.data_type == TensorProto.FLOAT and tensor.name not in fixed:
            tensor.CopyFrom(_to_half(tensor))
    for node in graph.node:
        for attribute in node.attribute:
            if (
                node.op_type == "Cast"
                and attribute.name == "to"
                and attribute.i == TensorProto.FLOAT
            ):
                attribute.i = TensorProto.FLOAT16
    del graph.value_info[:]
    _cast_ends(graph)
    model = onnx.shape_inference.infer_shapes(model, strict_mode=True)
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, path)


def _to_half(tensor: TensorProto) -> TensorProto:
    values = numpy_helper.to_array(tensor)
    largest = float(np.abs(values).max(initial=0.0))
    if largest > _LARGEST:
        raise ExportError(f"{tensor.name} holds {largest:g}; FP16 ends at {_LARGEST:g}. Use FP32.")
    if tensor.name.endswith("_scale") and float(values.min()) < _SMALLEST:
        raise ExportError(f"{tensor.name} holds {values.min():g}, which is 0 in FP16. Use FP32.")
    return numpy_helper.from_array(values.astype(np.float16), tensor.name)


def _cast_ends(graph: onnx.GraphProto) -> None:
    """Cast inputs to FP16 and outputs back, so that every flavour has the same interface."""
    for value in graph.input:
        inner = f"{value.name}_fp16"
        for node in graph.node:
            for index, name in enumerate(node.input):
                if name == value.name:
                    node.input[index] = inner
        cast = helper.make_node(
            "Cast", [value.name], [inner], name=f"{value.name}_to_fp16", to=TensorProto.FLOAT16
        )
        graph.node.insert(0, cast)
    for value in graph.output:
        inner = f"{value.name}_fp16"
        for node in graph.node:
            for names in (node.input, node.output):
                for index, name in enumerate(names):
                    if name == value.name:
                        names[index] = inner
        cast = helper.make_node(
            "Cast", [inner], [value.name], name=f"{value.name}_to_fp32", to=TensorProto.FLOAT
        )
        graph.node.append(cast)
