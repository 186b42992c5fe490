"""Q/DQ pairs around chosen nodes, by ONNX Runtime's quantizer, from ranges that are known."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import numpy as np
import onnx_ir as ir
from onnxruntime.quantization import QuantType
from onnxruntime.quantization.calibrate import CalibrationMethod, TensorData, TensorsData
from onnxruntime.quantization.qdq_quantizer import QDQQuantizer

from ..graphs.passes.graph import constant, names, operand, origin
from .shared_ranges import Range

_CHANNEL_AXES = {"Conv": 0, "ConvTranspose": 1}
"""Of the weights, as ONNX Runtime's quantizer takes them."""

STEPS = 254  # from -127 to 127


def channel_scales(
    model: ir.Model, nodes: Collection[str]
) -> dict[str, list[dict[str, int | np.float32]]]:
    """The scales of the weights of convolutions, as ONNX Runtime's quantizer computes them.

    It would take a call of Python for each channel, which is most of its time.

    Args:
        nodes: names of the nodes that run in INT8.

    Returns:
        The quantizer's option TensorQuantOverrides: by weight, the scale of each channel.
    """
    found = {}
    for node in model.graph:
        weight = operand(node, 1)
        values = constant(weight)
        if node.op_type not in _CHANNEL_AXES or node.name not in nodes:
            continue
        if weight is None or values is None or values.dtype != np.float32:
            continue
        axis = _CHANNEL_AXES[node.op_type]
        channels = np.moveaxis(values, axis, 0).reshape(values.shape[axis], -1)
        largest = np.abs(channels).max(axis=1, initial=0)
        exact = 2 * largest.astype(np.float64) / STEPS
        held = np.where(exact < np.finfo(np.float32).tiny, 1, exact).astype(np.float32)
        found[str(weight.name)] = [{"axis": axis, "scale": s, "zero_point": 0} for s in held]
    return found


def parts_of(
    model: ir.Model,
    chosen: Collection[str],
    convolutions: Collection[str],
    outputs: Collection[str],
) -> list[str]:
    """Names of the nodes that the chosen nodes became.

    A node that only moves a convolution's output is among them if a node that reads it is, or if
    what it puts out is one of `outputs`. Else a convolution that is chosen by itself would also
    answer for the range of its output.
    """
    parts: list[str] = []
    read = set(outputs)  # also by the nodes among them
    for node in reversed(model.graph):  # the graph is sorted
        stem = origin(node.name)
        moves_output = stem != node.name and stem in convolutions
        if stem in chosen and not (moves_output and read.isdisjoint(names(node.outputs))):
            parts.append(str(node.name))
            read.update(names(node.inputs))
    return parts


def insert_pairs(
    model: ir.Model,
    ranges: Mapping[str, Range],
    nodes: Collection[str],
    activation: QuantType,
    options: Mapping[str, Any],
    tensors: Collection[str] = (),
) -> ir.Model:
    """The model with Q/DQ pairs on what `nodes` read and put out, and on `tensors`."""
    scales = {**channel_scales(model, nodes), **options.get("TensorQuantOverrides", {})}
    seen = {
        name: TensorData(lowest=np.float32(lowest), highest=np.float32(highest))
        for name, (lowest, highest) in ranges.items()
    }
    quantizer = QDQQuantizer(
        ir.to_proto(model),
        per_channel=True,
        reduce_range=False,
        weight_qType=QuantType.QInt8,
        activation_qType=activation,
        tensors_range=TensorsData(CalibrationMethod.MinMax, seen),
        nodes_to_quantize=[],
        nodes_to_exclude=[str(node.name) for node in model.graph if node.name not in nodes],
        op_types_to_quantize=sorted({node.op_type for node in model.graph}),
        # The readers of a convolution's output quantize it. A pair between a convolution and its
        # Clip or Relu would keep the two from fusing, and round twice. A MatMul's stays float.
        extra_options={
            "AddQDQPairToWeight": True,
            "WeightSymmetric": True,
            "OpTypesToExcludeOutputQuantization": ["Conv", "ConvTranspose", "MatMul"],
            **options,
            "TensorQuantOverrides": scales,
        },
    )
    for name in tensors:
        quantizer.quantize_activation_tensor(name)
    quantizer.quantize_model()
    quantizer.model.topological_sort()
    quantized: ir.Model = ir.from_proto(quantizer.model.model)
    return quantized
