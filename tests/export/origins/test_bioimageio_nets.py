"""Nets of BioImage.IO's packages, with what clips and decides around them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
import yaml
from onnx import TensorProto, helper, numpy_helper

from edgeunet.errors import CheckpointError, ExportError, UsageError
from support.bioimageio import SIZE, net, opened, package, sigmoid


@pytest.mark.parametrize("inside", [False, True], ids=["described", "in the graph"])
def test_threshold_of_a_sigmoid_decides(inside: bool, tmp_path: Path) -> None:
    post = [{"id": "binarize", "kwargs": {"threshold": 0.35}}]
    folder = package(
        tmp_path,
        pre=[{"id": "scale_linear", "kwargs": {"gain": 0.01}}],
        before=lambda values: values * 0.01,
        post=post if inside else [{"id": "sigmoid"}, *post],
        after=lambda values: (values if inside else sigmoid(values)) > 0.35,
        model=net(1, 1, "Sigmoid") if inside else None,
    )
    origin = opened(folder)
    outputs, mask = origin.segment(origin.frames[0])
    wanted = np.load(folder / "output.npy")[0, 0]
    assert (mask == wanted).mean() >= 0.999
    assert 0.02 < wanted.mean() < 0.98
    assert (origin.decide(outputs, SIZE) == mask).mean() >= 0.999


def test_one_of_channels_that_overlap(tmp_path: Path) -> None:
    folder = package(
        tmp_path, pre=[{"id": "scale_linear", "kwargs": {"gain": 0.01}}],
        before=lambda values: values * 0.01, post=[{"id": "sigmoid"}], after=sigmoid,
        classes=("foreground", "boundary"),
    )  # fmt: skip
    with pytest.raises(CheckpointError, match=r"each of its 2 channels \(foreground, boundary\)"):
        opened(folder)
    origin = opened(folder, arch=("channel=boundary",))
    assert origin.card.classes == ("background", "boundary")
    mask = origin.segment(origin.frames[0])[1]
    assert (mask == (np.load(folder / "output.npy")[0, 1] > 0.5)).mean() >= 0.999
    with pytest.raises(UsageError, match="no channel cell; it has foreground, boundary"):
        opened(folder, arch=("channel=cell",))
    inside = package(
        tmp_path / "inside", pre=[{"id": "scale_linear", "kwargs": {"gain": 0.01}}],
        before=lambda values: values * 0.01, model=net(1, 2, "Sigmoid"), classes=("a", "b"),
    )  # fmt: skip
    with pytest.raises(CheckpointError, match=r"weights\.onnx has a sigmoid over 2 channels"):
        opened(inside)
    mask = opened(inside, arch=("channel=1",)).segment(origin.frames[0])[1]
    assert (mask == (np.load(inside / "output.npy")[0, 1] > 0.5)).mean() >= 0.999


def test_graph_that_normalises_and_description_add_up(tmp_path: Path) -> None:
    model = net(3, 2)
    model.graph.node[0].input[0] = "scaled"
    model.graph.node.insert(0, helper.make_node("Mul", ["shifted", "gain"], ["scaled"]))
    model.graph.node.insert(0, helper.make_node("Sub", ["raw", "mean"], ["shifted"]))
    for name, values in (("mean", [0.4, 0.5, 0.6]), ("gain", [4.0, 5.0, 6.0])):
        array = np.reshape(np.array(values, np.float32), (1, 3, 1, 1))
        model.graph.initializer.append(numpy_helper.from_array(array, name))
    onnx.checker.check_model(model)
    folder = package(
        tmp_path, channels=("red", "green", "blue"), classes=("a", "b"), model=model,
        pre=[{"id": "scale_linear", "kwargs": {"gain": 1 / 255}}], before=lambda v: v / 255,
    )  # fmt: skip
    origin = opened(folder)
    np.testing.assert_allclose(origin.card.input.mean, (0.4, 0.5, 0.6), atol=1e-6)
    np.testing.assert_allclose(origin.card.input.std, (1 / 4, 1 / 5, 1 / 6), atol=1e-6)
    mask = origin.segment(origin.frames[0])[1]
    assert (mask == np.load(folder / "output.npy")[0].argmax(0)).mean() >= 0.999


def test_graphs_that_are_no_segmentation_are_refused(tmp_path: Path) -> None:
    folder = package(tmp_path / "two")
    content = yaml.safe_load((folder / "rdf.yaml").read_text())
    del content["weights"]["onnx"]["sha256"]
    (folder / "rdf.yaml").write_text(yaml.safe_dump(content))
    model = net()
    model.graph.input.append(helper.make_tensor_value_info("prompt", TensorProto.FLOAT, [1, 2]))
    onnx.save(model, folder / "weights.onnx")
    with pytest.raises(ExportError, match=r"the graph has 2 inputs \(raw .*, prompt 1x2\)"):
        opened(folder)
    model = net()
    model.graph.node[1].domain = "com.example"
    model.opset_import.append(helper.make_opsetid("com.example", 1))
    onnx.save(model, folder / "weights.onnx")
    with pytest.raises(ExportError, match="expected ONNX's own operators"):
        opened(folder)
