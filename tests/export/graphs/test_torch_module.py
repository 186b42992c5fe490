"""The module gives the masks of its graph, in FP32, FP16 and INT8."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

from edgeunet.bundle.bundle import open_bundle
from edgeunet.bundle.manifest import Flavour, InputSpec
from edgeunet.exporting import write_pixels
from edgeunet.exporting.graphs.torch_module import TorchGraph
from edgeunet.runtime.backends.ort import OrtNet
from support.pixels import Small, noise, run_pixels


@pytest.mark.parametrize("flavour", ["fp32", "fp16", "int8"])
def test_masks_are_those_of_the_graph(int8_bundle: Path, tmp_path: Path, flavour: Flavour) -> None:
    bundle, path = open_bundle(int8_bundle), tmp_path / "pixels.onnx"
    write_pixels(bundle, flavour, path)
    frame = bundle.golden().frames[0][None]
    with OrtNet(path, flavour=flavour) as graph:
        (expected,) = graph.run(frame)
    with torch.inference_mode():
        found = TorchGraph(onnx.load(path))(torch.from_numpy(frame))["masks"]
        # Weights that are rounded in the module are the same ones.
        again = TorchGraph(onnx.load(path), rounded=False)(torch.from_numpy(frame))["masks"]
    assert found.dtype == torch.uint8
    assert np.mean(found.numpy() == expected) >= (0.99 if flavour == "int8" else 0.999)
    assert torch.equal(found, again)


def test_integers_are_read_by_one_operator_each(int8_bundle: Path, tmp_path: Path) -> None:
    """As converters expect: none of two readers, and none for a result that stays float."""
    write_pixels(open_bundle(int8_bundle), "int8", tmp_path / "pixels.onnx")
    nodes = TorchGraph(onnx.load(tmp_path / "pixels.onnx"))._nodes
    pairs = [node for node in nodes if node.op_type == "DequantizeLinear"]
    assert len(pairs) > 20
    assert all(len(list(node.outputs[0].uses())) == 1 for node in pairs)
    (head,) = [
        node
        for node in nodes
        if node.op_type == "Conv" and node.inputs[1].producer() is None
        and node.inputs[0].producer().op_type == "DequantizeLinear"
    ]  # fmt: skip
    assert head.inputs[1].const_value.dtype.numpy() == np.float32


def test_gate_and_padding_are_in_the_module() -> None:
    spec = InputSpec(16, 24, resize="pad", channels=("gray",), mean=(0.4,), std=(0.2,))
    model = Small.of(spec, classes=3, gate=(0.5, 0.5, 0.5)).pixels()
    for frame in noise(spec):
        expected = run_pixels(model, [frame])
        found = TorchGraph(model)(torch.from_numpy(frame[None]))
        assert list(found) == list(expected)
        np.testing.assert_allclose(found["presence"], expected["presence"], atol=1e-5)
        assert np.mean(found["masks"].numpy() == expected["masks"]) >= 0.99
