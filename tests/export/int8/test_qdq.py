"""Pairs around chosen nodes."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from edgeunet.exporting.graphs.trace import trace
from edgeunet.exporting.int8 import qdq
from edgeunet.exporting.int8.quantize import quantize_for_cpu, quantize_for_tensorrt
from edgeunet.models import create_model
from support.int8 import some_table


def test_scales_of_weights_are_those_of_onnx_runtime(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Depthwise, transposed, and in channels that hold nothing or nearly so."""
    net = create_model("mobile_unet", num_classes=3, width=4).eval()
    convolutions = [m for m in net.modules() if isinstance(m, nn.Conv2d | nn.ConvTranspose2d)]
    with torch.no_grad():
        for index, convolution in enumerate(convolutions):
            convolution.weight[0] *= (0.0, 1e-38, 1e-30, 1.0)[index % 4]
    reference = tmp_path / "net.onnx"
    trace(net, reference, height=64, width=64, channels=3)
    table = some_table(reference)
    written = []
    for _ in range(2):
        for quantize_for in (quantize_for_tensorrt, quantize_for_cpu):
            quantize_for(reference, tmp_path / "int8.onnx", table)
            written.append((tmp_path / "int8.onnx").read_bytes())
        monkeypatch.setattr(qdq, "channel_scales", lambda model, nodes: {})
    assert written[:2] == written[2:]
