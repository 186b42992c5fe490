"""The reference graph and a calibration table -> Q/DQ graphs, one emitter for each consumer.

Facts behind the choices: ONNX Runtime is fast only where Relu and Clip fold into an unsigned
range; TensorRT reads only symmetric signed Q/DQ with float biases.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnxruntime.quantization import QuantType
from onnxruntime.quantization.calibrate import CalibrationMethod, TensorData, TensorsData
from onnxruntime.quantization.qdq_quantizer import QDQQuantizer

from edgeunet.bundle.calibration_table import CalibrationTable

from ..graphs.passes.batch_norm_to_conv import batch_norm_to_conv
from ..graphs.passes.cancel_transposes import cancel_transposes
from ..graphs.passes.channels_last_stem import channels_last_stem
from ..graphs.passes.clean import clean
from ..graphs.passes.concat_in_int8 import concat_in_int8
from ..graphs.passes.conv_to_matmul import conv_to_matmul
from ..graphs.passes.expand_gates import expand_gates
from ..graphs.passes.graph import origin
from ..graphs.passes.resize_in_float import resize_in_float
from ..graphs.passes.resize_to_conv import resize_to_conv
from ..graphs.passes.spread_depth_to_space import spread_depth_to_space
from ..graphs.passes.transpose_head import transpose_head
from ..graphs.passes.widen_convolutions import widen_convolutions
from .placement import int8_nodes, tensorrt_nodes
from .shared_ranges import Range, inherit_ranges, share_ranges

FOR_CPU = (
    batch_norm_to_conv,
    spread_depth_to_space,
    resize_to_conv,
    widen_convolutions,
    transpose_head,
    conv_to_matmul,
    expand_gates,
    channels_last_stem,
)
"""What ONNX Runtime's INT8 kernels are faster with; the function stays the same."""


def quantize_for_cpu(
    source: Path, path: Path, table: CalibrationTable, *, nodes: Collection[str] | None = None
) -> None:
    """Write model.int8.cpu.onnx: asymmetric unsigned activations, signed weights per channel.

    Args:
        nodes: names of those that run in INT8, None for all of `int8_nodes`.
    """
    model = onnx.load(source)
    chosen = int8_nodes(model) if nodes is None else nodes
    shared = share_ranges(model, table.ranges, keep_clamps=True)
    convolutions = {node.name for node in model.graph.node if node.op_type == "Conv"}
    for rewrite in FOR_CPU:
        model = rewrite(model)
    ranges = inherit_ranges(model, shared)
    model = cancel_transposes(model)
    parts = _parts(model, chosen, convolutions)
    # A Relu that only a Resize or MaxPool reads would else stay float, and its convolution with it.
    options = {"ForceQuantizeNoInputCheck": True}
    quantized = _quantized(model, ranges, parts, QuantType.QUInt8, options)
    onnx.save(concat_in_int8(quantized), path)


def quantize_for_tensorrt(
    source: Path, path: Path, table: CalibrationTable, *, nodes: Collection[str] | None = None
) -> None:
    """Write model.int8.onnx: symmetric signed Q/DQ on data and weights, biases float.

    Args:
        nodes: names of those that may run in INT8, None for all; of them, `tensorrt_nodes` do.
    """
    model = onnx.load(source)
    wanted = tensorrt_nodes(model)
    chosen = wanted if nodes is None else [name for name in wanted if name in nodes]
    ranges = share_ranges(model, table.ranges, keep_clamps=False)
    options = {"ActivationSymmetric": True, "AddQDQPairToWeight": True, "QuantizeBias": False}
    quantized = _quantized(model, ranges, chosen, QuantType.QInt8, options)
    onnx.save(clean(resize_in_float(quantized)), path)


def _parts(
    model: onnx.ModelProto, chosen: Collection[str], convolutions: Collection[str]
) -> list[str]:
    """Names of the nodes that the chosen ones became.

    What only moves a convolution's output is among them if a node that reads it there is: else the
    convolution, chosen by itself, would answer for the range of its output as well.
    """
    parts: list[str] = []
    read: set[str] = set()  # by the nodes among them
    for node in reversed(model.graph.node):  # sorted by the ONNX standard
        stem = origin(node.name)
        moves_output = stem != node.name and stem in convolutions
        if stem in chosen and not (moves_output and read.isdisjoint(node.output)):
            parts.append(node.name)
            read.update(node.input)
    return parts


def _quantized(
    model: onnx.ModelProto,
    ranges: Mapping[str, Range],
    nodes: Collection[str],
    activation: QuantType,
    options: Mapping[str, Any],
) -> onnx.ModelProto:
    seen = {
        name: TensorData(lowest=np.float32(lowest), highest=np.float32(highest))
        for name, (lowest, highest) in ranges.items()
    }
    quantizer = QDQQuantizer(
        model,
        per_channel=True,
        reduce_range=False,
        weight_qType=QuantType.QInt8,
        activation_qType=activation,
        tensors_range=TensorsData(CalibrationMethod.MinMax, seen),
        nodes_to_quantize=[],
        nodes_to_exclude=[node.name for node in model.graph.node if node.name not in nodes],
        op_types_to_quantize=sorted({node.op_type for node in model.graph.node}),
        # A convolution's output is quantized by those who read it: between it and its Clip or Relu
        # a pair would keep the two from fusing, and round twice. A MatMul's stays float.
        extra_options={
            "WeightSymmetric": True,
            "OpTypesToExcludeOutputQuantization": ["Conv", "ConvTranspose", "MatMul"],
            **options,
        },
    )
    quantizer.quantize_model()
    quantizer.model.topological_sort()
    quantized: onnx.ModelProto = quantizer.model.model
    onnx.checker.check_model(quantized)
    return quantized
