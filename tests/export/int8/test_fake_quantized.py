"""The module that is trained computes TensorRT's INT8 graph, and its weights go back into it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
import pytest
import torch

from edgeunet.bundle.calibration_table import CalibrationTable
from edgeunet.data.cells import snapshots
from edgeunet.exporting.graphs.passes.graph import attribute, constant, load, of_type, save
from edgeunet.exporting.graphs.trace import trace
from edgeunet.exporting.int8.fake_quantized import FakeQuantized, _scales, write_weights
from edgeunet.exporting.int8.quantize import quantize_for_tensorrt
from edgeunet.exporting.int8.shared_ranges import share_ranges
from edgeunet.models.checkpoints import Checkpoint
from edgeunet.runtime.backends.preprocess import Preprocessor
from support.exports import table_of

COUNT = 6


@pytest.fixture(scope="module", params=["checkpoint", "shallow"])
def case(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, CalibrationTable, np.ndarray]:
    """Reference graph, its table and net inputs, of a Mobile U-Net and a U-Net++."""
    opened = Checkpoint.open(request.getfixturevalue(request.param))
    spec = opened.card.input
    path = tmp_path_factory.mktemp(request.param) / "net.onnx"
    trace(opened.net, path, height=spec.height, width=spec.width, channels=3)
    drawn = snapshots(COUNT, height=spec.height, width=spec.width, seed=4)
    frames = [frame.image for frame in drawn]
    return path, table_of(path, frames, spec), Preprocessor(spec)(frames)


def on_onnx_runtime(path: Path, images: np.ndarray) -> np.ndarray:
    """Logits, node by node as written."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    logits: np.ndarray = session.run(["logits"], {"image": images})[0]
    return logits


def spoil(path: Path, to: Path) -> None:
    """Weights of some channels nearly 0, where scales are rounded to what FP16 holds."""
    model = load(path)
    for node in model.graph:
        if node.op_type == "Conv":
            value = node.inputs[1]
            held = value.const_value.numpy().copy()
            held[0] *= 1e-5
            held[-1] *= 1e-39
            value.const_value = ir.tensor(held, name=value.name)
    save(model, to)


@pytest.mark.parametrize("spoiled", [False, True])
def test_module_gives_the_masks_of_the_graph(
    case: tuple[Path, CalibrationTable, np.ndarray], tmp_path: Path, spoiled: bool
) -> None:
    reference, table, images = case
    if spoiled:
        spoil(reference, tmp_path / "spoiled.onnx")
        reference = tmp_path / "spoiled.onnx"
    quantize_for_tensorrt(reference, tmp_path / "int8.onnx", table)
    wanted = on_onnx_runtime(tmp_path / "int8.onnx", images)
    net = FakeQuantized(onnx.load(tmp_path / "int8.onnx"), batch=COUNT)
    with torch.no_grad():
        found = net(torch.from_numpy(images))["logits"].numpy()
    assert (found.argmax(1) == wanted.argmax(1)).mean() >= 0.999
    step = np.abs(wanted - on_onnx_runtime(reference, images)).mean()
    assert np.abs(found - wanted).mean() < 0.05 * step, "rounding is not the graph's"


def test_scales_of_weights_are_those_of_the_graph(
    case: tuple[Path, CalibrationTable, np.ndarray], tmp_path: Path
) -> None:
    """Also of channels that are nearly dead."""
    spoil(case[0], tmp_path / "spoiled.onnx")
    quantize_for_tensorrt(tmp_path / "spoiled.onnx", tmp_path / "int8.onnx", case[1])
    compared = 0
    for node in of_type(load(tmp_path / "int8.onnx").graph, "QuantizeLinear"):
        weight, scales = (constant(value) for value in node.inputs[:2])
        if weight is not None and scales is not None:
            found = _scales(torch.tensor(weight), attribute(node, "axis", 1))
            np.testing.assert_allclose(found.numpy(), scales, rtol=1e-6)
            compared += 1
    assert compared > 3


def test_unsigned_levels_lose_less(
    case: tuple[Path, CalibrationTable, np.ndarray], tmp_path: Path
) -> None:
    """They are twice as many for a Relu, and have a zero point for what has both signs."""
    reference, table, images = case
    quantize_for_tensorrt(reference, tmp_path / "int8.onnx", table)
    ranges = share_ranges(load(reference), table.ranges, keep_clamps=True)
    net = FakeQuantized(onnx.load(tmp_path / "int8.onnx"), batch=COUNT, ranges=ranges)
    wanted, errors = on_onnx_runtime(reference, images), []
    for net.unsigned in (False, True):
        with torch.no_grad():
            found = net(torch.from_numpy(images))["logits"].numpy()
        errors.append(np.abs(found - wanted).mean())
    assert errors[1] < errors[0]


def test_weights_go_back_where_they_came_from(
    case: tuple[Path, CalibrationTable, np.ndarray], tmp_path: Path
) -> None:
    """Unchanged, the INT8 graph stays as it is; changed, the graph is what the module computes."""
    reference, table, images = case
    quantize_for_tensorrt(reference, tmp_path / "int8.onnx", table)
    net = FakeQuantized(onnx.load(tmp_path / "int8.onnx"), batch=COUNT)
    write_weights(reference, tmp_path / "same.onnx", net.weights())
    quantize_for_tensorrt(tmp_path / "same.onnx", tmp_path / "same.int8.onnx", table)
    before, same = (on_onnx_runtime(tmp_path / f"{n}.onnx", images) for n in ("int8", "same.int8"))
    np.testing.assert_array_equal(before, same)

    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for weight in net.parameters():
            weight *= 1 + 0.2 * torch.rand(weight.shape, generator=generator)
        found = net(torch.from_numpy(images))["logits"].numpy()
    write_weights(reference, tmp_path / "new.onnx", net.weights())
    quantize_for_tensorrt(tmp_path / "new.onnx", tmp_path / "new.int8.onnx", table)
    wanted = on_onnx_runtime(tmp_path / "new.int8.onnx", images)
    assert (wanted.argmax(1) != before.argmax(1)).mean() > 0.01, "nothing was changed"
    assert (found.argmax(1) == wanted.argmax(1)).mean() >= 0.999


def test_every_weight_learns(
    case: tuple[Path, CalibrationTable, np.ndarray], tmp_path: Path
) -> None:
    reference, table, images = case
    quantize_for_tensorrt(reference, tmp_path / "int8.onnx", table)
    net = FakeQuantized(onnx.load(tmp_path / "int8.onnx"), batch=COUNT)
    net(torch.from_numpy(images))["logits"].square().sum().backward()
    model = load(reference)
    kernels = {str(node.inputs[1].name) for node in model.graph if node.op_type == "Conv"}
    assert kernels <= net.weights().keys()
    for weight in net.parameters():
        assert weight.grad is not None
        assert weight.grad.abs().max() > 0
