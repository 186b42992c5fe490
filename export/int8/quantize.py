"""The reference graph and a calibration table -> Q/DQ graphs, one for each kind of reader.

The choices rest on three facts. ONNX Runtime is fast only if Relu and Clip fold into an unsigned
range. TensorRT reads only symmetric signed Q/DQ with float biases. OpenVINO has layouts of its own,
and fuses what stands between a convolution and the next pair, but it computes each pair that it
cannot fuse.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
from onnx_ir.passes.common import RemoveUnusedNodesPass
from onnxruntime.quantization import QuantType
from onnxruntime.quantization.calibrate import CalibrationMethod, TensorData, TensorsData
from onnxruntime.quantization.qdq_quantizer import QDQQuantizer

from edgeunet.bundle.calibration_table import CalibrationTable

from ..graphs import passes
from ..graphs.fp16 import SMALLEST
from ..graphs.passes.graph import constant, load, names, operand, origin, save
from .halves import avoid_halves
from .pair_sums import limit_pairs
from .placement import (
    convolutions_with_sums,
    float_convolutions,
    float_resizes,
    int8_nodes,
    openvino_nodes,
    outputs_before_float,
    tensorrt_nodes,
)
from .shared_ranges import Range, balance_ranges, cut_unused, inherit_ranges, share_ranges


def passes_for_cpu(nodes: Collection[str] | None = None) -> list[ir.passes.PassBase]:
    """Forms that ONNX Runtime's INT8 kernels are faster with; the function stays the same.

    Args:
        nodes: names of the nodes that run in INT8, None for all.
    """
    return [
        passes.BatchNormToConv(),
        passes.SpreadDepthToSpace(),
        passes.DeconvToPhases(nodes),
        passes.UpsampledConvToPhases(nodes),
        passes.ResizeToConv(nodes),
        passes.ResizeToGather(nodes),
        passes.ResizeChannelsLast(),
        passes.WidenConvolutions(),
        passes.TransposeHead(),
        passes.ConvToMatMul(),
        passes.ExpandGates(),
        passes.MapsOfTokens(),
        passes.TokensOfMaps(),
        passes.ChannelsLastStem(),
    ]


def quantize_for_cpu(
    source: Path, path: Path, table: CalibrationTable, *, nodes: Collection[str] | None = None
) -> None:
    """Write model.int8.cpu.onnx: asymmetric unsigned activations, signed weights per channel.

    Args:
        nodes: names of the nodes that run in INT8, None for all of `int8_nodes`.
    """
    model = load(source)
    possible = int8_nodes(model)
    chosen = possible if nodes is None else nodes
    seen = cut_unused(model, table.ranges)
    shared = avoid_halves(model, share_ranges(model, seen, keep_clamps=True))
    convolutions = {
        str(node.name) for node in model.graph if node.op_type in ("Conv", "ConvTranspose")
    }
    outputs = outputs_before_float(model, chosen)
    ir.passes.Sequential(*passes_for_cpu(chosen))(model)
    ranges = inherit_ranges(model, shared)
    ir.passes.Sequential(passes.CancelTransposes(), RemoveUnusedNodesPass())(model)
    parts = _parts(model, chosen, convolutions, outputs)
    # With quantized weights they would not take their fast form, and convert them in each call.
    floats = [*float_convolutions(model, parts, possible, outputs), *float_resizes(model, parts)]
    for node in floats:
        parts.remove(str(node.name))
    # A Relu that only a Resize or MaxPool reads would else stay float, and its convolution with it.
    options = {
        "ForceQuantizeNoInputCheck": True,
        "TensorQuantOverrides": limit_pairs(model, parts),
    }
    tensors = [*outputs, *(name for node in floats for name in names(node.inputs[:1]))]
    quantized = _quantized(model, ranges, parts, QuantType.QUInt8, options, tensors)
    ir.passes.Sequential(
        passes.QuantizeConstants(),
        passes.RoundOnce(),
        passes.ConcatInInt8(),
        passes.HardSwishInInt8(),
        RemoveUnusedNodesPass(),
    )(quantized)
    save(quantized, path)


def quantize_for_tensorrt(
    source: Path, path: Path, table: CalibrationTable, *, nodes: Collection[str] | None = None
) -> None:
    """Write model.int8.onnx: symmetric signed Q/DQ on data and weights, biases float.

    Args:
        nodes: names of the nodes that may run in INT8, None for all; `tensorrt_nodes` of them do.
    """
    model = load(source)
    wanted = tensorrt_nodes(model)
    chosen = wanted if nodes is None else [name for name in wanted if name in nodes]
    ranges = share_ranges(model, table.ranges, keep_clamps=False)
    options = {"ActivationSymmetric": True, "QuantizeBias": False}
    quantized = _quantized(model, ranges, chosen, QuantType.QInt8, options)
    ir.passes.Sequential(passes.RoundOnce(), passes.ResizeInFloat(), passes.Clean())(quantized)
    _round_small_scales(quantized)
    save(quantized, path)


def quantize_for_openvino(
    source: Path, path: Path, table: CalibrationTable, *, nodes: Collection[str] | None = None
) -> None:
    """Write model.int8.openvino.onnx: unsigned activations, signed weights per channel.

    Zero points move into the convolutions that read them, and cost little there. Signed
    activations cost more: oneDNN halves the weights for them on x86-64 processors without VNNI, so
    that a level is lost, and a range that starts at 0 loses another one. With AMX zero points cost
    more, so the dear ones are 128: there OpenVINO gets signed bytes, see `use_signed_bytes`.

    OpenVINO keeps channels last by itself. The forms for ONNX Runtime (`passes_for_cpu`) would cost
    it reorders.

    Args:
        nodes: names of the nodes that may run in INT8, None for all; `openvino_nodes` of them do,
            and `convolutions_with_sums`.
    """
    model = load(source)
    wanted = openvino_nodes(model)
    chosen = wanted if nodes is None else [name for name in wanted if name in nodes]
    chosen = [*convolutions_with_sums(model, chosen), *chosen]
    seen = cut_unused(model, table.ranges)
    # All tensors that meet have one range: a Concat joins bytes, and a Relu fuses in any range.
    shared = share_ranges(model, seen, keep_clamps=False)
    shared = avoid_halves(model, balance_ranges(model, shared, chosen))
    convolutions = {str(node.name) for node in model.graph if node.op_type == "Conv"}
    # OpenVINO runs a transposed convolution in INT8 only if the zero point of what it reads is 0.
    unsigned = [
        str(node.name)
        for node in model.graph
        if node.name in chosen and shared.get(names(node.inputs)[0], _SIGNED)[0] >= 0
    ]
    ir.passes.Sequential(
        passes.UpsampledConvToDeconv(unsigned),
        passes.UpsampledConvToPhases(chosen, whole=True),
        passes.DepthToSpaceToDeconv(unsigned),
        passes.ResizeToDeconv(unsigned),
        RemoveUnusedNodesPass(),
    )(model)
    ranges = inherit_ranges(model, shared)
    parts = _parts(model, chosen, convolutions, [])
    limits = limit_pairs(model, parts, onednn=True)
    options = {"QuantizeBias": False, "TensorQuantOverrides": limits}
    quantized = _quantized(model, ranges, parts, QuantType.QUInt8, options)
    ir.passes.Sequential(
        passes.QuantizeConstants(), passes.RoundOnce(), passes.MoveBytes(), passes.Clean()
    )(quantized)
    save(quantized, path)


_SIGNED: Range = (-1.0, 1.0)

_CHANNEL_AXES = {"Conv": 0, "ConvTranspose": 1}
"""Of the weights, as ONNX Runtime's quantizer takes them."""

_STEPS = 254  # from -127 to 127

_PRECISE = float(np.finfo(np.float16).smallest_normal)
"""Scales from which on FP16 holds them with its full precision."""


def _round_small_scales(model: ir.Model) -> None:
    """Round the scales of nearly dead channels up to what FP16 holds, in every signed graph.

    Nets that start from ImageNet weights have channels whose weights are near 0. The weights are
    quantized by the rounded scale, so that the graph of FP16 holds the same ones, and both compute
    the same; weights of less than half of the smallest scale become 0.
    """
    weights = {
        node.inputs[1]
        for node in model.graph
        if node.op_type in ("QuantizeLinear", "DequantizeLinear")
    }
    for value in weights:
        scales = constant(value)
        if value is None or scales is None or scales.min() >= _PRECISE:
            continue
        rounded = np.maximum(np.ceil(scales / SMALLEST) * SMALLEST, SMALLEST)
        held = np.where(scales < _PRECISE, rounded, scales).astype(scales.dtype)
        value.const_value = ir.tensor(held, name=value.name)


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
        exact = 2 * largest.astype(np.float64) / _STEPS
        held = np.where(exact < np.finfo(np.float32).tiny, 1, exact).astype(np.float32)
        found[str(weight.name)] = [{"axis": axis, "scale": s, "zero_point": 0} for s in held]
    return found


def _parts(
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


def _quantized(
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
