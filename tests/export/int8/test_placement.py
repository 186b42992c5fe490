"""Which nodes run in INT8."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from edgeunet.bundle.manifest import flavour_file
from edgeunet.exporting.graphs.passes import Prepare
from edgeunet.exporting.graphs.passes.graph import load, producer, save
from edgeunet.exporting.int8.placement import int8_nodes
from edgeunet.exporting.int8.quantize import quantize_for_cpu, quantize_for_tensorrt
from edgeunet.runtime.backends.ort import OrtNet
from support.foreign_nets import observed_table, smooth_image, traced
from support.int8 import graph


def test_onnx_runtime_runs_all_convolutions_but_the_ends_in_int8(
    int8_bundle: Path, tmp_path: Path
) -> None:
    ran = optimised(int8_bundle / flavour_file("int8.cpu"), tmp_path / "optimized.onnx")
    convs = Counter(node.op_type for node in graph(int8_bundle, "fp32").node)["Conv"]
    assert ran["QLinearConv"] == convs - 2
    assert ran["Clip"] == 0, "ReLU6 folds into the ranges and the first convolution"
    assert ran["QuantizeLinear"] == 1, "behind the first convolution only"
    assert ran["DequantizeLinear"] <= 3, "input, weights and bias of the last convolution only"


@pytest.mark.parametrize("flavour", ["int8", "int8.fp16", "int8.cpu", "int8.openvino"])
def test_nothing_stands_between_a_convolution_and_its_activation(
    int8_bundle: Path, flavour: str
) -> None:
    found = graph(int8_bundle, flavour)
    producer = {name: node for node in found.node for name in node.output}
    clips = [node for node in found.node if node.op_type == "Clip"]
    assert clips
    assert {producer[clip.input[0]].op_type for clip in clips} == {"Conv"}


@pytest.mark.parametrize("flavour", ["int8", "int8.fp16", "int8.cpu", "int8.openvino"])
def test_the_logits_are_not_rounded_to_256_levels(int8_bundle: Path, flavour: str) -> None:
    found = graph(int8_bundle, flavour)
    producer = {name: node for node in found.node for name in node.output}
    last = producer["logits"]
    while last.op_type in ("Add", "Cast", "Reshape", "Transpose"):
        last = producer[last.input[0]]
    assert last.op_type == ("MatMul" if flavour == "int8.cpu" else "Conv")


class Mixed(nn.Module):
    """A net as others write them: group normalisation, residual sums, a GELU, a head and a Resize.

    The image meets a feature again before the last block.
    """

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, stride=2, padding=1)
        self.block = nn.Conv2d(8, 8, 3, padding=1)
        self.norm = nn.GroupNorm(2, 8)
        self.swish = nn.Sequential(nn.Conv2d(8, 8, 3, padding=1), nn.Hardswish())
        self.mix = nn.Linear(8, 8)
        self.again = nn.Conv2d(11, 8, 3, padding=1)
        self.last = nn.Conv2d(8, 8, 3, padding=1)
        self.heads = nn.ModuleList(nn.Conv2d(8, 3, 1) for _ in range(2))

    def forward(self, image: Tensor) -> Tensor:
        x = functional.relu(self.stem(image))
        x = functional.relu(x + self.norm(self.block(x)))
        x = self.swish(x)
        tokens = x.flatten(2).transpose(1, 2)
        tokens = tokens + functional.gelu(self.mix(tokens)) * 0.5
        x = tokens.transpose(1, 2).reshape(image.shape[0], 8, *x.shape[2:])
        small = functional.avg_pool2d(image, 2)
        x = functional.relu(self.last(functional.relu(self.again(torch.cat([x, small], 1)))))
        logits = self.heads[0](x) + self.heads[1](x)
        return functional.interpolate(logits, scale_factor=2.0, mode="bilinear").softmax(1)


@pytest.fixture(scope="module")
def mixed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("mixed") / "net.onnx"
    model = traced(Mixed(), 32, 48)
    save(Prepare()(ir.from_proto(model)).model, path)
    return path


def test_what_stands_between_float_nodes_stays_float(mixed: Path) -> None:
    model = load(mixed)
    chosen = {"/".join(str(name).split("/")[1:]) for name in int8_nodes(model)}
    convolutions = {"block/Conv", "swish/swish.0/Conv", "last/Conv"}
    convolutions |= {"heads.0/Conv", "heads.1/Conv"}
    assert chosen == {*convolutions, "Add"}, "without the first convolutions, norms, GELU and ends"


def test_convolutions_in_front_of_float_nodes_run_in_int8(mixed: Path, tmp_path: Path) -> None:
    table = observed_table(mixed)
    cpu, signed = tmp_path / "cpu.onnx", tmp_path / "signed.onnx"
    quantize_for_cpu(mixed, cpu, table)
    quantize_for_tensorrt(mixed, signed, table)
    ran = optimised(cpu, tmp_path / "optimised.onnx")
    assert ran["QLinearConv"] == 3
    assert ran["MatMulIntegerToFloat"] == 2, "the heads: their sums stay float"
    image = smooth_image(32, 48)
    wanted = OrtNet(mixed).run(image)[0]
    for path, flavour in ((cpu, "int8.cpu"), (signed, "int8")):
        found = OrtNet(path, flavour=flavour).run(image)[0]
        assert np.abs(found - wanted).max() < 0.05, flavour


class Doubled(nn.Module):
    """A decoder whose transposed convolutions stand before normalisations, as MONAI's and smp's."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 16, 3, stride=2, padding=1)
        self.down = nn.Conv2d(16, 16, 3, stride=2, padding=1)
        self.instance = nn.Sequential(nn.InstanceNorm2d(16), nn.PReLU())
        self.up = nn.ConvTranspose2d(32, 8, 3, stride=2, padding=1, output_padding=1)
        self.norms = nn.ModuleList([nn.InstanceNorm2d(8), nn.BatchNorm2d(8).eval()])
        self.last = nn.ConvTranspose2d(8, 8, 4, stride=2, padding=1)
        self.head = nn.Conv2d(8, 3, 1)

    def forward(self, image: Tensor) -> Tensor:
        x = self.instance(self.down(functional.hardswish(self.stem(image))))
        x = self.norms[0](self.up(torch.cat([x, functional.relu(-x)], 1)))
        return self.head(functional.relu(self.norms[1](self.last(x))))


def test_transposed_convolutions_run_in_int8_where_the_cpu_gains(tmp_path: Path) -> None:
    torch.manual_seed(0)
    path, cpu, signed = (tmp_path / f"{name}.onnx" for name in ("net", "cpu", "signed"))
    net = Doubled()
    net.norms[1].running_var.fill_(0.5)
    save(Prepare()(ir.from_proto(traced(net, 32, 48))).model, path)
    names = {node.op_type for node in load(path).graph}
    assert names.isdisjoint({"BatchNormalization", "PRelu"})
    table = observed_table(path)
    quantize_for_cpu(path, cpu, table)
    quantize_for_tensorrt(path, signed, table)
    ran = optimised(cpu, tmp_path / "optimised.onnx")
    assert ran["QLinearConv"] == 3
    assert ran["ConvTranspose"] == 0
    floats = [node for node in load(signed).graph if node.op_type == "ConvTranspose"]
    assert len(floats) == 2
    assert not any(producer(node.inputs[1]) for node in floats), "their weights stay as they are"
    image = smooth_image(32, 48)
    wanted = OrtNet(path).run(image)[0]
    for graph_path, flavour in ((cpu, "int8.cpu"), (signed, "int8")):
        found = OrtNet(graph_path, flavour=flavour).run(image)[0]
        assert np.abs(found - wanted).max() < 0.05 * np.abs(wanted).max(), flavour


def optimised(path: Path, target: Path) -> Counter[str]:
    """Operators that ONNX Runtime runs."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    options.optimized_model_filepath = str(target)
    onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    return Counter(node.op_type for node in onnx.load(target).graph.node)
