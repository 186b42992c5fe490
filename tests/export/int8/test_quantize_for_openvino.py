"""The INT8 graph for OpenVINO: its form, and what OpenVINO makes of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnx_ir as ir
import pytest
import torch
from torch import Tensor, nn

from edgeunet.bundle.manifest import flavour_file
from edgeunet.exporting.graphs.passes import Prepare
from edgeunet.exporting.graphs.passes.graph import load, save
from edgeunet.exporting.int8.pair_sums import LIMIT, largest_pair
from edgeunet.exporting.int8.placement import int8_nodes
from edgeunet.exporting.int8.quantize import quantize_for_openvino
from edgeunet.runtime.backends.ort import OrtNet
from support.foreign_nets import observed_table, smooth_image, traced
from support.int8 import constants, graph

Images = npt.NDArray[np.float32]


def test_bytes_are_moved_and_activations_are_unsigned(int8_bundle: Path) -> None:
    found = graph(int8_bundle, "int8.openvino")
    values = constants(found)
    producer = {name: node.op_type for node in found.node for name in node.output}
    pairs = [node for node in found.node if node.op_type == "QuantizeLinear"]
    activations = [node for node in pairs if node.input[0] in producer]
    assert {values[node.input[2]].dtype for node in activations} == {np.dtype(np.uint8)}
    behind = Counter(producer[node.input[0]] for node in activations)
    assert set(behind) == {"Add", "Clip", "Conv"}, "not a DepthToSpace or a Concat"
    forms = Counter(node.op_type for node in found.node)
    assert forms["Transpose"] == forms["MatMul"] == 0, "of the graph for ONNX Runtime"


class Decoder(nn.Module):
    """What other people's decoders have: a SiLU with a gate, a doubled map beside a skip.

    Its weights are large and of one sign: pairs of products would saturate. Five channels have no
    partner for the last: ONNX Runtime pairs it with the next column's first, which OpenVINO pairs
    with the second.
    """

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 5, 3, padding=1)
        self.down = nn.Conv2d(5, 24, 3, stride=2, padding=1)
        self.gate = nn.Conv2d(24, 24, 1)
        self.fuse = nn.Conv2d(29, 16, 3, padding=1)
        self.head = nn.Conv2d(16, 3, 1)
        for conv in (self.down, self.fuse):
            nn.init.uniform_(conv.weight, 0.09, 0.1)
        pairs = torch.zeros(5, 9)
        pairs[:2, 1::2] = 1
        self.down.weight.data *= pairs.reshape(5, 3, 3)
        self.stem.bias.data += 1

    def forward(self, image: Tensor) -> Tensor:
        skip = torch.relu(self.stem(image))
        x = nn.functional.silu(self.down(skip))
        x = x * torch.sigmoid(self.gate(x.mean((2, 3), keepdim=True)))
        x = torch.cat([nn.functional.interpolate(x, scale_factor=2.0), skip], 1)
        return self.head(torch.relu(self.fuse(x)))


@pytest.fixture(scope="module")
def decoder(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Graph of FP32, and that for OpenVINO."""
    torch.manual_seed(0)
    return written(Decoder(), tmp_path_factory.mktemp("decoder"))


def test_doubled_maps_are_convolved_before_they_are_doubled(decoder: tuple[Path, Path]) -> None:
    wanted, found = (OrtNet(path).run(smooth_image(32, 48))[0] for path in decoder)
    assert np.abs(found - wanted).max() < 0.05 * np.ptp(wanted)
    forms = Counter(node.op_type for node in onnx.load(decoder[1]).graph.node)
    assert not forms["Resize"] and forms["DepthToSpace"] == forms["Slice"] == 1


def test_openvino_computes_what_the_graph_says_in_int8(
    decoder: tuple[Path, Path], int8_bundle: Path
) -> None:
    openvino = pytest.importorskip("openvino", reason="OpenVINO is not installed")
    whole = int8_bundle / flavour_file("int8.openvino")
    for path, image in ((decoder[1], smooth_image(32, 48)), (whole, smooth_image(64, 96))):
        run, kinds = _compiled(openvino, path)
        convolutions = [kind for name, kind in kinds if "Convolution" in name]
        assert sum("I8" not in kind for kind in convolutions) == 1, "the first alone"
        exact = OrtNet(path, flavour="int8").run(image)[0]  # node by node
        # Steps that round the other way add up in a few places; saturated sums were off by 79 %.
        off = np.abs(run(image) - exact) / np.ptp(exact)
        assert np.quantile(off, 0.99) < 0.02 and off.max() < 0.05, path.name


class Upsampled(nn.Module):
    """Both ways in which our own nets double a map, here of values without a sign or with one.

    The weights of the transposed convolution are large and of one sign: pairs of products would
    saturate.
    """

    def __init__(self, *, signed: bool) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 3, padding=1)
        self.down = nn.Conv2d(4, 8, 3, stride=2, padding=1)
        self.up = nn.ConvTranspose2d(8, 6, 2, stride=2)
        self.fuse = nn.Conv2d(14, 8, 3, padding=1)
        self.head = nn.Conv2d(8, 3, 1)
        self.signed = signed
        nn.init.uniform_(self.up.weight, 0.9, 1.0)

    def forward(self, image: Tensor) -> Tensor:
        x = self.down(torch.relu(self.stem(image)))
        x = x if self.signed else torch.relu(x)
        bilinear = nn.functional.interpolate(x, scale_factor=2.0, mode="bilinear")
        return self.head(torch.relu(self.fuse(torch.cat([self.up(x).relu(), bilinear], 1))))


@pytest.mark.parametrize("signed", [False, True])
def test_unsigned_maps_are_doubled_by_transposed_convolutions_in_int8(
    signed: bool, tmp_path: Path
) -> None:
    torch.manual_seed(0)
    path, int8 = written(Upsampled(signed=signed), tmp_path)
    image = smooth_image(32, 48)
    wanted, found = (OrtNet(each).run(image)[0] for each in (path, int8))
    assert np.abs(found - wanted).max() < 0.05 * np.ptp(wanted)
    found_graph = onnx.load(int8).graph
    values = constants(found_graph)
    deconvolutions = [node for node in found_graph.node if node.op_type == "ConvTranspose"]
    assert len(deconvolutions) == (0 if signed else 2)
    producers = {node.output[0]: node for node in found_graph.node}
    quantized = [node.input[0] for node in found_graph.node if node.op_type == "QuantizeLinear"]
    assert {producers[name].op_type for name in quantized if name in producers} <= {
        *("Conv", "ConvTranspose", "DepthToSpace", "Relu", "Resize"),
    }, "not a Pad or a Concat"
    for node in deconvolutions:
        weight = values[producers[node.input[1]].input[0]]  # (I, O, k, k)
        assert largest_pair(np.moveaxis(weight, 0, -1).reshape(-1, len(weight))) <= LIMIT
    openvino = pytest.importorskip("openvino", reason="OpenVINO is not installed")
    run, kinds = _compiled(openvino, int8)
    moved = {name for name, _ in kinds} & {"DepthToSpace", "Interpolate"}
    assert moved == ({"DepthToSpace", "Interpolate"} if signed else set())
    doubling = [kind for name, kind in kinds if name in _DECONVOLUTIONS]
    assert len(doubling) == len(deconvolutions) and all("I8" in kind for kind in doubling)
    exact = OrtNet(int8, flavour="int8").run(image)[0]
    assert np.abs(run(image) - exact).max() < 0.02 * np.ptp(exact)


class Nearest(nn.Module):
    """A decoder without a skip: a convolution behind doubled pixels, of either sign or not."""

    def __init__(self, *, signed: bool) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, stride=2, padding=1)
        self.down = nn.Conv2d(8, 8, 3, padding=1)
        self.fuse = nn.Conv2d(8, 4, 3, padding=1)
        self.head = nn.Conv2d(4, 3, 1)
        self.signed = signed

    def forward(self, image: Tensor) -> Tensor:
        x = self.down(torch.relu(self.stem(image)))
        x = nn.functional.interpolate(x if self.signed else torch.relu(x), scale_factor=2.0)
        return self.head(torch.relu(self.fuse(x)))


@pytest.mark.parametrize("signed", [False, True])
def test_doubled_maps_alone_are_convolved_by_transposed_convolutions(
    signed: bool, tmp_path: Path
) -> None:
    torch.manual_seed(0)
    path, int8 = written(Nearest(signed=signed), tmp_path)
    image = smooth_image(32, 48)
    wanted, found = (OrtNet(each).run(image)[0] for each in (path, int8))
    assert np.abs(found - wanted).max() < 0.05 * np.ptp(wanted)
    forms = Counter(node.op_type for node in onnx.load(int8).graph.node)
    assert (forms["ConvTranspose"], forms["DepthToSpace"]) == ((0, 1) if signed else (1, 0))
    assert not forms["Resize"]


class Residual(nn.Module):
    """Two blocks as ResUNet has them: of the image, and of a sum that is doubled in float."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 3, padding=1)
        self.first = nn.Conv2d(4, 4, 3, padding=1)
        self.shortcut = nn.Conv2d(3, 4, 1)
        self.down = nn.Conv2d(4, 24, 3, stride=2, padding=1)
        self.second = nn.Conv2d(24, 24, 3, padding=1)
        self.side = nn.Conv2d(4, 24, 1, stride=2)
        self.fuse = nn.Conv2d(28, 8, 3, padding=1)
        self.head = nn.Conv2d(8, 3, 1)

    def forward(self, image: Tensor) -> Tensor:
        x = self.first(torch.relu(self.stem(image))) + self.shortcut(image)
        y = self.second(torch.relu(self.down(x))) + self.side(x)
        y = nn.functional.interpolate(y, scale_factor=2.0, mode="bilinear")
        return self.head(torch.relu(self.fuse(torch.cat([y, x], 1))))


def test_a_residual_block_of_the_image_runs_in_int8_as_a_whole(tmp_path: Path) -> None:
    torch.manual_seed(0)
    path, int8 = written(Residual(), tmp_path)
    image = smooth_image(32, 48)
    wanted, found = (OrtNet(each).run(image)[0] for each in (path, int8))
    assert np.abs(found - wanted).max() < 0.05 * np.ptp(wanted)
    quantized = onnx.load(int8).graph
    assert not floats_of(quantized)
    values = constants(quantized)
    producers = {name: node for node in quantized.node for name in node.output}
    pairs = [node for node in quantized.node if node.op_type == "QuantizeLinear"]
    sums = [node for node in pairs if producers.get(node.input[0], node).op_type == "Add"]
    assert len(sums) == 1, "the sum that is doubled in float is not rounded before"
    first = next(node for node in quantized.node if node.name == "/stem/Conv")
    assert values[producers[first.input[0]].input[2]] == 128, "a zero point that AMX does without"


def test_the_first_convolutions_are_float_if_their_sum_is(tmp_path: Path) -> None:
    torch.manual_seed(0)
    path, _ = written(Residual(), tmp_path)
    nodes = int8_nodes(load(path))
    sums = [str(node.name) for node in load(path).graph if node.op_type == "Add"]
    chosen = tmp_path / "chosen.onnx"
    quantize_for_openvino(
        path, chosen, observed_table(path), nodes=[name for name in nodes if name != sums[0]]
    )
    assert floats_of(onnx.load(chosen).graph) == {"/stem/Conv", "/shortcut/Conv"}


def floats_of(found: onnx.GraphProto) -> set[str]:
    """Names of the convolutions that do not read a Q/DQ pair."""
    pairs = {n.output[0] for n in found.node if n.op_type == "DequantizeLinear"}
    moved = {
        node.output[0]
        for node in found.node
        if node.op_type == "Concat" and pairs.issuperset(node.input)
    }
    return {n.name for n in found.node if n.op_type == "Conv" and n.input[0] not in pairs | moved}


def written(net: nn.Module, folder: Path) -> tuple[Path, Path]:
    """A net's graph of FP32, and that for OpenVINO."""
    path, int8 = folder / "net.onnx", folder / "int8.onnx"
    save(Prepare()(ir.from_proto(traced(net, 32, 48))).model, path)
    quantize_for_openvino(path, int8, observed_table(path))
    return path, int8


_DECONVOLUTIONS = ("ConvolutionBackpropData", "Deconvolution")


def _compiled(
    openvino: Any, path: Path
) -> tuple[Callable[[Images], Images], list[tuple[str, str]]]:
    """How to run a graph on the CPU, and its nodes' kinds with the kernels that compute them."""
    settings = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": 1}
    compiled = openvino.Core().compile_model(path, "CPU", settings)
    infos = [node.get_rt_info() for node in compiled.get_runtime_model().get_ordered_ops()]
    kinds = [(str(i["layerType"].astype(str)), str(i["primitiveType"].astype(str))) for i in infos]
    return lambda image: compiled(image)[0], kinds
