"""The reference graph and a calibration table -> Q/DQ graphs, one for each kind of reader.

The choices rest on three facts. ONNX Runtime is fast only if Relu and Clip fold into an unsigned
range. TensorRT reads only symmetric signed Q/DQ with float biases. OpenVINO has layouts of its own,
and fuses what stands between a convolution and the next pair, but it computes each pair that it
cannot fuse.
"""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

import numpy as np
import onnx_ir as ir
from onnx_ir.passes.common import RemoveUnusedNodesPass
from onnxruntime.quantization import QuantType

from edgeunet.bundle.calibration_table import CalibrationTable

from ..graphs import passes
from ..graphs.fp16 import SMALLEST
from ..graphs.passes.graph import constant, load, names, save
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
from .qdq import insert_pairs, parts_of
from .shared_ranges import Range, balance_ranges, cut_unused, inherit_ranges, share_ranges
from .widths import wide_nodes, width_overrides


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
    parts = parts_of(model, chosen, convolutions, outputs)
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
    quantized = insert_pairs(model, ranges, parts, QuantType.QUInt8, options, tensors)
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
    quantized = insert_pairs(model, ranges, chosen, QuantType.QInt8, options)
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
    parts = parts_of(model, chosen, convolutions, [])
    limits = limit_pairs(model, parts, onednn=True)
    options = {"QuantizeBias": False, "TensorQuantOverrides": limits}
    quantized = insert_pairs(model, ranges, parts, QuantType.QUInt8, options)
    ir.passes.Sequential(
        passes.QuantizeConstants(), passes.RoundOnce(), passes.MoveBytes(), passes.Clean()
    )(quantized)
    save(quantized, path)


def quantize_for_qnn(
    source: Path, path: Path, table: CalibrationTable, *, nodes: Collection[str] | None = None
) -> None:
    """Write model.int8.qnn.onnx: unsigned activations, signed weights per channel, no floats.

    Qualcomm's processors for nets compute with integers, and what has no pair on each side runs in
    float, or on the CPU. So every tensor has a pair; what is too dear for 8 bits takes 16. Relu and
    Clip end where the range does, and are dropped.

    Args:
        nodes: names of the nodes that may run in 8 bits, None for all; see `wide_nodes`.
    """
    model = load(source)
    passes.BatchNormToConv()(model)
    seen = cut_unused(model, table.ranges)
    shared = avoid_halves(model, share_ranges(model, seen, keep_clamps=True))
    ranges = inherit_ranges(model, shared)
    widths = width_overrides(model, wide_nodes(model, nodes), ranges)
    options = {
        "ForceQuantizeNoInputCheck": True,
        "OpTypesToExcludeOutputQuantization": [],
        "TensorQuantOverrides": widths,
        # ONNX has pairs of 16 bits from opset 21 on.
        "UseQDQContribOps": True,
    }
    every = [str(node.name) for node in model.graph]
    outputs = names(model.graph.outputs)
    quantized = insert_pairs(model, ranges, every, QuantType.QUInt8, options, outputs)
    ir.passes.Sequential(passes.QuantizeConstants(), RemoveUnusedNodesPass())(quantized)
    save(quantized, path)


_SIGNED: Range = (-1.0, 1.0)

PRECISE = float(np.finfo(np.float16).smallest_normal)
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
        if value is None or scales is None or scales.min() >= PRECISE:
            continue
        rounded = np.maximum(np.ceil(scales / SMALLEST) * SMALLEST, SMALLEST)
        held = np.where(scales < PRECISE, rounded, scales).astype(scales.dtype)
        value.const_value = ir.tensor(held, name=value.name)
