"""The INT8 graph for Qualcomm's Hexagon: integers alone, and what its compiler makes of it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest
import torch
from torch import Tensor, nn

from edgeunet.bundle.bundle import open_bundle
from edgeunet.exporting.graphs.passes import Prepare
from edgeunet.exporting.graphs.passes.graph import load, save
from edgeunet.exporting.int8.placement import int8_nodes
from edgeunet.exporting.int8.quantize import quantize_for_qnn
from edgeunet.runtime.backends.ort import OrtNet, open_flavour
from edgeunet.runtime.frames import Batch
from support.foreign_nets import observed_table, smooth_image, traced
from support.int8 import constants, graph

PAIR = ("QuantizeLinear", "DequantizeLinear")


def floats(found: onnx.GraphProto) -> list[str]:
    """Nodes that get or give a float beside pairs, the image or a constant."""
    made = {name: node.op_type for node in found.node for name in node.output}
    read: dict[str, set[str]] = {}
    for node in found.node:
        for name in node.input:
            read.setdefault(name, set()).add(node.op_type)
    held = set(constants(found)) | {""}
    return [
        node.name
        for node in found.node
        if node.op_type not in PAIR
        and not (
            all(name in held or made[name] == PAIR[1] for name in node.input)
            and all(read[name] == {PAIR[0]} for name in node.output)
        )
    ]


@pytest.mark.parametrize("kind", ["int8_bundle", "gated_bundle"])
def test_every_tensor_has_a_pair(kind: str, request: pytest.FixtureRequest) -> None:
    found = graph(request.getfixturevalue(kind), "int8.qnn")
    assert floats(found) == []
    assert "Clip" not in {node.op_type for node in found.node}, "it ends where the range does"
    values = constants(found)
    weights = {
        values[node.input[2]].dtype
        for node in found.node
        if node.op_type == PAIR[1] and values.get(node.input[0], np.zeros(0)).ndim == 4
    }
    assert weights == {np.dtype(np.int8)}
    activations = [node for node in found.node if node.op_type == PAIR[0]]
    kinds = {values[node.input[2]].dtype for node in activations}
    assert kinds == {np.dtype(np.uint8), np.dtype(np.uint16)}
    ends = {name: node for node in found.node for name in node.output}
    for output in found.output:
        (zero,) = {values[ends[output.name].input[2]].dtype}
        assert zero == np.uint16, "logits and presence are not rounded to 256 levels"


def test_masks_are_the_references(int8_bundle: Path) -> None:
    bundle = open_bundle(int8_bundle)
    golden = bundle.golden()
    with open_flavour(bundle, "int8.qnn") as backend:
        found = backend.segment(Batch.of(list(golden.frames))).runs[0].masks
    assert (found == golden.masks).mean() > 0.99


class Hard(nn.Module):
    """What other people's nets have: hard swish, a norm behind a sum, a gate, both resizes."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1)
        self.down = nn.Conv2d(8, 16, 3, stride=2, padding=1)
        self.same = nn.Conv2d(16, 16, 3, padding=1)
        self.norm = nn.BatchNorm2d(16)
        self.gate = nn.Conv2d(16, 16, 1)
        self.up = nn.ConvTranspose2d(16, 8, 2, stride=2)
        self.head = nn.Conv2d(24, 3, 1)

    def forward(self, image: Tensor) -> Tensor:
        skip = nn.functional.hardswish(self.stem(image))
        x = torch.relu(self.down(skip))
        x = torch.relu(self.norm(x + self.same(x)))
        x = x * torch.sigmoid(self.gate(x.mean((2, 3), keepdim=True)))
        big = nn.functional.interpolate(x[:, :8], scale_factor=2.0, mode="bilinear")
        return self.head(torch.cat([torch.relu(self.up(x)), big, skip], 1))


@pytest.fixture(scope="module")
def hard(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The FP32 graph of `Hard`."""
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("hard") / "net.onnx"
    save(Prepare()(ir.from_proto(traced(Hard(), 32, 48))).model, path)
    return path


def test_foreign_nets_have_no_floats_either(hard: Path, tmp_path: Path) -> None:
    image = smooth_image(32, 48)
    wanted = OrtNet(hard).run(image)[0]
    table, possible = observed_table(hard), int8_nodes(load(hard))
    errors = []
    for nodes in (None, possible[::2], []):
        path = tmp_path / "int8.onnx"
        quantize_for_qnn(hard, path, table, nodes=nodes)
        assert floats(onnx.load(path).graph) == []
        errors.append(float(np.abs(OrtNet(path).run(image)[0] - wanted).mean()))
    assert errors[2] < errors[0] < 0.05 * np.ptp(wanted), "16 bits are closer than 8"
    assert errors[1] < errors[0]
