"""Teachers: what they answer, in the student's terms, and which are refused."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import helper
from torch.nn import functional

from edgeunet.bundle.manifest import InputSpec
from edgeunet.bundle.steps import ImageStatistics, Window
from edgeunet.data.cells import CLASSES, write_dataset
from edgeunet.data.datasets import Dataset, open_dataset
from edgeunet.errors import BundleError, CheckpointError, UnknownNameError
from edgeunet.files import sha256
from edgeunet.models import Checkpoint, save_checkpoint
from edgeunet.models.reference import to_input
from edgeunet.training.teacher import open_teacher

SPEC = InputSpec(64, 96)  # that of `checkpoint`
Graph = Callable[[onnx.GraphProto], None]


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    path = tmp_path_factory.mktemp("cells") / "data"
    write_dataset(path, train=1, val=1, height=64, width=96)
    return open_dataset(path)


def inputs(spec: InputSpec, count: int = 2) -> torch.Tensor:
    coarse = np.random.default_rng(0).integers(0, 256, (count, 8, 12, 3), np.uint8)
    return torch.cat([to_input(frame, spec) for frame in coarse.repeat(8, 1).repeat(8, 2)])


def changed(checkpoint: Path, folder: Path, **card: Any) -> Path:
    """A copy of a checkpoint whose card says something else."""
    opened = Checkpoint.open(checkpoint)
    path = folder / "teacher.safetensors"
    save_checkpoint(path, opened.net, replace(opened.card, **card))
    return path


def test_answers_with_the_logits_of_its_net(checkpoint: Path, dataset: Dataset) -> None:
    teacher = open_teacher(checkpoint, dataset, SPEC)
    images = inputs(SPEC)
    logits, presence = teacher.answer(images)
    with torch.no_grad():
        half, _ = Checkpoint.open(checkpoint).net.predict(images)
    wanted = functional.interpolate(half, size=(64, 96), mode="bilinear")
    torch.testing.assert_close(logits, wanted)
    assert presence is None
    assert not logits.requires_grad
    assert teacher.record == {"name": "tiny.safetensors", "sha256": sha256(checkpoint)}
    inner = teacher.answer(images, margin=8).logits
    torch.testing.assert_close(inner, wanted[..., 8:-8, 8:-8])


def test_classes_in_another_order_are_mapped(calibrated: Path, dataset: Dataset) -> None:
    turned = replace(dataset, classes=CLASSES[::-1])
    images = inputs(SPEC)
    for wanted, found in zip(
        open_teacher(calibrated, dataset, SPEC).answer(images),
        open_teacher(calibrated, turned, SPEC).answer(images),
        strict=True,
    ):
        assert wanted is not None and found is not None  # this net has a gate
        torch.testing.assert_close(found, wanted.flip(1))


def test_another_normalisation_is_converted(checkpoint: Path, dataset: Dataset) -> None:
    other = InputSpec(64, 96, mean=(0.1, 0.2, 0.3), std=(0.5, 0.6, 0.7))
    wanted = open_teacher(checkpoint, dataset, SPEC).answer(inputs(SPEC)).logits
    found = open_teacher(checkpoint, dataset, other).answer(inputs(other)).logits
    torch.testing.assert_close(found, wanted, atol=1e-3, rtol=1e-3)


def test_teacher_of_another_size_sees_objects_as_large_as_it_knows(
    checkpoint: Path, dataset: Dataset, tmp_path: Path
) -> None:
    path = changed(checkpoint, tmp_path, input=InputSpec(128, 192))
    teacher = open_teacher(path, dataset, SPEC)
    assert teacher.size_for(64, 96) == (128, 192)
    assert teacher.size_for(50, 60) == (96, 128)  # multiples of what its net takes
    images = inputs(SPEC)
    twice = functional.interpolate(images, size=(128, 192), mode="bilinear")
    with torch.no_grad():
        wanted = Checkpoint.open(path).net.predict(twice)[0]
    wanted = functional.interpolate(wanted, size=(64, 96), mode="bilinear")
    torch.testing.assert_close(teacher.answer(images).logits, wanted, atol=1e-4, rtol=1e-4)
    assert teacher.answer(images[..., :40, :56]).logits.shape == (2, 3, 40, 56)


@pytest.mark.parametrize(
    ("theirs", "ours", "said"),
    [
        ({"channels": ("blue", "green", "red")}, {}, "other channels: blue, green, red; expected"),
        ({"levels": (0, 4095), "depth": "uint16"}, {}, r"other levels: 0\.0, 4095\.0; expected"),
        ({"statistics": ImageStatistics()}, {}, "other statistics: .*; expected none"),
        ({"resize": "pad"}, {}, "other frames: padded frames; expected stretched ones"),
        ({}, {"window": Window()}, "other frames: stretched ones; expected windows"),
        (
            {"resize": "pad"},
            {"resize": "pad_centre", "height": 128},
            "other proportions of padded frames: 64x96; expected 128x96",
        ),
    ],
)
def test_another_kind_of_input_is_refused_by_name(
    checkpoint: Path,
    dataset: Dataset,
    tmp_path: Path,
    theirs: dict[str, Any],
    ours: dict[str, Any],
    said: str,
) -> None:
    path = changed(checkpoint, tmp_path, input=replace(SPEC, mean=(), std=(), **theirs))
    with pytest.raises(CheckpointError, match=rf"teacher\.safetensors has {said}.*--teacher"):
        open_teacher(path, dataset, replace(SPEC, **ours))


def test_other_classes_are_refused_by_name(checkpoint: Path, dataset: Dataset) -> None:
    other = replace(dataset, classes=("background", "cell", "dust"))
    with pytest.raises(CheckpointError, match="classes: background, cell, dividing; expected back"):
        open_teacher(checkpoint, other, SPEC)


def test_padded_and_windowed_inputs_of_one_kind_fit(
    checkpoint: Path, dataset: Dataset, tmp_path: Path
) -> None:
    for kind, zoom in (({"resize": "pad"}, 2.0), ({"window": Window()}, 1.0)):
        path = changed(checkpoint, tmp_path, input=replace(SPEC, **kind))
        assert open_teacher(path, dataset, InputSpec(32, 48, **kind)).zoom == (zoom, zoom)


def test_what_is_no_teacher_is_named(checkpoint: Path, dataset: Dataset, tmp_path: Path) -> None:
    bare = tmp_path / "bare.pth"
    torch.save(Checkpoint.open(checkpoint).net.state_dict(), bare)
    for where, said in (
        (bare, "bare.pth is no teacher: expected MODEL:TAG.*its card"),
        (str(tmp_path / "none"), "none does not exist; expected MODEL:TAG"),
        ("unet:", "unet: does not exist"),
    ):
        with pytest.raises(CheckpointError, match=said):
            open_teacher(where, dataset, SPEC)
    with pytest.raises(UnknownNameError, match="cells"):
        open_teacher("unet:nothing", dataset, SPEC)
    with pytest.raises(BundleError, match="not a bundle"):
        open_teacher(tmp_path, dataset, SPEC)
    assert open_teacher("unet:cells", dataset, SPEC).record["name"] == "unet:cells"


# Bundles


def without_checkpoint(bundle: Path, folder: Path, change: Graph = lambda graph: None) -> Path:
    """A copy of a bundle that keeps its graph alone, as of a net from elsewhere."""
    copy = shutil.copytree(bundle, folder / "graph")
    path = copy / "model.fp32.onnx"
    model = onnx.load(path)
    change(model.graph)
    onnx.save(model, path)
    manifest = json.loads((copy / "manifest.json").read_text())
    manifest["reference"] = "graph"
    manifest["files"]["model.fp32.onnx"] = sha256(path)
    (copy / "manifest.json").write_text(json.dumps(manifest))
    return copy


def behind_logits(*nodes: onnx.NodeProto) -> Graph:
    """Put nodes, the last of which makes `logits` from `before`, behind the graph."""

    def change(graph: onnx.GraphProto) -> None:
        for node in graph.node:
            node.output[:] = ["before" if name == "logits" else name for name in node.output]
        graph.node.extend(nodes)

    return change


def test_bundle_answers_as_its_checkpoint(
    checkpoint: Path, fp32_bundle: Path, dataset: Dataset, tmp_path: Path
) -> None:
    images = inputs(SPEC, count=3)
    wanted = open_teacher(checkpoint, dataset, SPEC).answer(images).logits
    graph = without_checkpoint(fp32_bundle, tmp_path)
    for bundle in (fp32_bundle, graph):
        teacher = open_teacher(bundle, dataset, SPEC)
        found = teacher.answer(images).logits
        torch.testing.assert_close(found, wanted, atol=1e-2, rtol=1e-3)
        assert teacher.record["name"] == bundle.name
        assert teacher.record["sha256"] == sha256(bundle / "manifest.json")
    assert open_teacher(fp32_bundle, dataset, SPEC).size_for(32, 32) == (32, 32)


def test_graph_takes_crops_of_its_own_size_only(
    fp32_bundle: Path, dataset: Dataset, tmp_path: Path
) -> None:
    graph = without_checkpoint(fp32_bundle, tmp_path)
    with pytest.raises(CheckpointError, match=r"crops of 64x96 only, got 32x32.*--crop 64x96"):
        open_teacher(graph, dataset, SPEC).size_for(32, 32)
    half = open_teacher(graph, dataset, InputSpec(32, 48))
    assert half.size_for(32, 48) == (64, 96)
    with pytest.raises(CheckpointError, match="crops of 32x48 only"):
        half.size_for(64, 96)


def test_graph_says_that_it_answers_on_the_cpu(
    fp32_bundle: Path, dataset: Dataset, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    graph = without_checkpoint(fp32_bundle, tmp_path)
    open_teacher(graph, dataset, SPEC)
    assert caplog.messages == []
    open_teacher(graph, dataset, SPEC, device="meta")
    (told,) = caplog.messages
    assert told.startswith("the teacher graph is a graph, which answers on the CPU.")


def test_graph_of_a_gated_net_answers_for_the_presence(
    gated_bundle: Path, calibrated: Path, dataset: Dataset, tmp_path: Path
) -> None:
    images = inputs(SPEC)
    wanted = open_teacher(calibrated, dataset, SPEC).answer(images)
    graph = without_checkpoint(gated_bundle, tmp_path)
    found = open_teacher(graph, dataset, SPEC).answer(images)
    assert wanted.presence is not None and found.presence is not None
    torch.testing.assert_close(found.presence, wanted.presence, atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize(
    "nodes",
    [
        [helper.make_node("Softmax", ["before"], ["logits"], axis=1)],
        [helper.make_node("Hardmax", ["before"], ["logits"], axis=1)],
    ],
    ids=["probabilities", "class ids"],
)
def test_graph_without_logits_is_refused(
    fp32_bundle: Path, dataset: Dataset, tmp_path: Path, nodes: list[onnx.NodeProto]
) -> None:
    graph = without_checkpoint(fp32_bundle, tmp_path, behind_logits(*nodes))
    with pytest.raises(
        CheckpointError, match=r"graph gives class ids or probabilities.*not logits"
    ):
        open_teacher(graph, dataset, SPEC)
