"""The INT8 graphs of a bundle."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest
import torch
from torch import nn

from edgeunet.bundle.manifest import Flavour, flavour_file
from edgeunet.exporting.graphs.passes import Prepare
from edgeunet.exporting.graphs.passes.graph import save
from edgeunet.exporting.int8.emitters import write_int8
from edgeunet.runtime.backends.ort import OrtNet
from support.foreign_nets import observed_table, smooth_image, traced
from support.int8 import constants


@pytest.mark.parametrize(
    ("flavour", "opset"),
    [("int8", 17), ("int8.fp16", 19), ("int8.cpu", 17), ("int8.openvino", 17), ("int8.qnn", 17)],
)
def test_opset_is_what_the_consumer_reads(int8_bundle: Path, flavour: str, opset: int) -> None:
    model = onnx.load(int8_bundle / flavour_file(flavour))  # type: ignore[arg-type]
    assert {e.version for e in model.opset_import if e.domain == ""} == {opset}


@pytest.mark.parametrize("size", [0.0, 1e-9, 5e-6, 1e-4])
def test_channels_whose_weights_are_near_zero_leave_the_masks_as_they_are(
    size: float, tmp_path: Path
) -> None:
    """As channels that were never used have them in nets that start from ImageNet weights."""
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(3, 16, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(16, 16, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(16, 3, 1),
    )
    with torch.no_grad():
        for conv in (net[2], net[4]):
            conv.weight[0] *= size / conv.weight[0].abs().max()  # one channel, and one class
    save(Prepare()(ir.from_proto(traced(net, 32, 48))).model, tmp_path / flavour_file("fp32"))
    write_int8(tmp_path, observed_table(tmp_path / flavour_file("fp32")))
    image = smooth_image(32, 48)
    wanted = OrtNet(tmp_path / flavour_file("fp32")).run(image)[0]
    flavours: tuple[Flavour, ...] = ("int8", "int8.fp16", "int8.cpu", "int8.openvino", "int8.qnn")
    for flavour in flavours:
        found = OrtNet(tmp_path / flavour_file(flavour), flavour=flavour).run(image)[0]
        assert np.abs(found - wanted).max() < 0.03 * np.ptp(wanted), flavour
        assert (found.argmax(1) == wanted.argmax(1)).mean() > 0.98, flavour
    single, double = (onnx.load(tmp_path / flavour_file(f)).graph for f in flavours[:2])
    halves = constants(double)
    for name, scale in constants(single).items():
        if name.endswith("_scale"):
            assert (halves[name] > 0).all()
            np.testing.assert_allclose(halves[name], scale, rtol=1e-3)
