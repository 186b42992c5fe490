"""Graphs that several tests run."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
import torch
from onnx import TensorProto, helper

from edgeunet.exporting.graphs.trace import trace
from edgeunet.models import create_model

Array = npt.NDArray[np.float32]


def run(model: onnx.ModelProto, image: Array) -> list[Array]:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(model.SerializeToString(), options)
    return session.run(None, {model.graph.input[0].name: image})


def ops(model: onnx.ModelProto) -> set[str]:
    return {node.op_type for node in model.graph.node}


def traced(name: str, folder: Path, *, width: int = 8) -> Path:
    """A variant whose normalisations do something, as (N, 3, 64, 96) -> 3 classes."""
    torch.manual_seed(0)
    net = create_model(name, num_classes=3, width=width).eval()
    for module in net.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 2)
            torch.nn.init.normal_(module.bias)  # or the exporter shares equal ones
    trace(net, folder / "net.onnx", height=64, width=96, channels=3)
    return folder / "net.onnx"


def single(node: onnx.NodeProto, *constants: onnx.TensorProto) -> onnx.ModelProto:
    """Model `image` -> node -> `logits`."""
    value = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in ("image", "logits")
    ]
    graph = helper.make_graph([node], "single", value[:1], value[1:], list(constants))
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
