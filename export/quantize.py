"""The reference graph and a calibration table -> Q/DQ graphs, one emitter for each consumer.

Facts behind the choices: ONNX Runtime is fast only where Relu and Clip fold into an unsigned
range; TensorRT reads only symmetric signed Q/DQ with float biases.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnxruntime.quantization import QuantType
from onnxruntime.quantization.calibrate import CalibrationMethod, TensorData, TensorsData
from onnxruntime.quantization.qdq_quantizer import QDQQuantizer

from edgeunet.calibration import CalibrationTable

# What runs in INT8.
_OPS = ("Conv", "Add", "Concat", "DepthToSpace", "MaxPool", "Resize", "Mul")


def quantize_for_cpu(source: Path, path: Path, table: CalibrationTable) -> None:
    """Write model.int8.cpu.onnx: asymmetric unsigned activations, signed weights per channel."""
    _quantize(source, path, table, QuantType.QUInt8, {})


def quantize_for_tensorrt(source: Path, path: Path, table: CalibrationTable) -> None:
    """Write model.int8.onnx: symmetric signed Q/DQ on data and weights, biases float."""
    _quantize(
        source,
        path,
        table,
        QuantType.QInt8,
        {
            "ActivationSymmetric": True,
            "AddQDQPairToWeight": True,
            "QuantizeBias": False,
        },
    )


def _quantize(
    source: Path,
    path: Path,
    table: CalibrationTable,
    activation: QuantType,
    options: dict[str, Any],
) -> None:
    model = onnx.load(source)
    quantizer = QDQQuantizer(
        model,
        per_channel=True,
        reduce_range=False,
        weight_qType=QuantType.QInt8,
        activation_qType=activation,
        tensors_range=_tensors_data(table),
        nodes_to_quantize=[],
        nodes_to_exclude=_float_nodes(model),
        op_types_to_quantize=list(_OPS),
        # A convolution's output is quantized by those who read it: between it and its Clip or Relu
        # a pair would keep the two from fusing, and round twice.
        extra_options={
            "WeightSymmetric": True,
            "OpTypesToExcludeOutputQuantization": ["Conv"],
            **options,
        },
    )
    quantizer.quantize_model()
    quantizer.model.topological_sort()
    quantized: onnx.ModelProto = quantizer.model.model
    onnx.checker.check_model(quantized)
    onnx.save(quantized, path)


def _float_nodes(model: onnx.ModelProto) -> list[str]:
    """Nodes that stay float: those at the image, those behind the last convolutions, and the gate.

    The first convolution has three input channels and sees every bit of the frame: an image rounded
    to 256 levels of its whole range costs more agreement than all other layers together (measured
    on CamVid), and so few channels gain nothing in INT8. The last convolution takes INT8, but its
    sums stay float, for 256 levels over the range of all logits are coarser than what decides the
    argmax at a boundary. The gate's presence is compared with a threshold, and its one convolution,
    at the coarsest level, costs next to nothing.
    """
    logits = model.graph.output[0].name
    needed = _needed_for(logits, model)
    inputs = {value.name for value in model.graph.input}
    return [
        node.name
        for node in model.graph.node
        if inputs & set(node.input)
        or (logits in node.output and node.op_type != "Conv")
        or not needed & set(node.output)
    ]


def _needed_for(output: str, model: onnx.ModelProto) -> set[str]:
    """Names of the tensors that an output is computed from, itself included."""
    needed = {output}
    for node in reversed(model.graph.node):  # sorted by the ONNX standard
        if needed & set(node.output):
            needed |= set(node.input)
    return needed


def _tensors_data(table: CalibrationTable) -> TensorsData:
    return TensorsData(
        CalibrationMethod.MinMax,
        {
            name: TensorData(lowest=np.float32(lowest), highest=np.float32(highest))
            for name, (lowest, highest) in table.ranges.items()
        },
    )
