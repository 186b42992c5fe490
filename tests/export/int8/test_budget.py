"""INT8 graphs that lose too much: layers return to float, or nothing is written."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import onnx
import pytest

from edgeunet.bundle.bundle import open_bundle
from edgeunet.bundle.calibration_table import TABLE_NAME, read_table
from edgeunet.bundle.manifest import flavour_file
from edgeunet.bundle.schema import encode
from edgeunet.errors import ParityError
from edgeunet.exporting import ExportOptions, export_bundle
from edgeunet.exporting.graphs.passes.graph import load
from edgeunet.exporting.int8 import budget
from edgeunet.exporting.int8.budget import Layer, hold_budget, layers_of, rank_layers
from edgeunet.exporting.int8.emitters import COMPARED, CPU, TENSORRT, Emitter
from edgeunet.exporting.int8.judge import Judge, Loss
from edgeunet.exporting.int8.placement import int8_nodes, tensorrt_nodes
from edgeunet.models.checkpoints import Checkpoint
from edgeunet.parity import golden_samples
from edgeunet.runtime.backends.preprocess import Preprocessor

LAYER = "/x01/x01.0/x01.0.2/Relu"
"""A node in the decoder, whose output one convolution reads."""


@pytest.fixture(scope="module")
def bundle(shallow: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("shallow") / "bundle"
    export_bundle(output, ExportOptions("unetpp", str(shallow), "int8"))
    return output


@pytest.fixture(scope="module")
def spoiled(bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bundle's table with a range for that layer so wide that its values share one level."""
    table = read_table(bundle / TABLE_NAME)
    model = onnx.load(bundle / flavour_file("fp32"))
    (tensor,) = next(node.output for node in model.graph.node if node.name == LAYER)
    assert tensor in table.ranges
    path = tmp_path_factory.mktemp("spoiled") / "table.json"
    ranges = {**table.ranges, tensor: (0.0, 3000.0)}
    path.write_text(json.dumps(encode(replace(table, ranges=ranges))))
    return path


def drop_of(bundle: Path) -> float:
    stages = json.loads((bundle / "parity.json").read_text())["stages"]
    return max(stage["drop"] for stage in stages if "int8" in stage["name"])


def pairs(path: Path) -> int:
    return sum(node.op_type == "DequantizeLinear" for node in onnx.load(path).graph.node)


def test_badly_calibrated_layer_is_found_and_returned_to_float(
    bundle: Path, shallow: Path, spoiled: Path, tmp_path: Path
) -> None:
    allowed = drop_of(bundle) + 1.0
    options = ExportOptions(
        "unetpp", str(shallow), "int8", calib_table=spoiled, max_iou_drop=allowed
    )
    said: list[str] = []
    report = export_bundle(tmp_path / "good", options, report=said.append)
    (whole,) = (line for line in said if line.startswith("0 of "))
    assert float(whole.split(": ")[1].split(" points")[0]) > allowed + 1, "nothing to repair"
    assert report.fallbacks[0].layer == LAYER
    assert report.fallbacks[0].gain > 1
    assert drop_of(tmp_path / "good") <= allowed
    assert any("in float" in line for line in said)
    assert f"float: {LAYER}, which won back" in report.table()
    stored = json.loads((tmp_path / "good" / "parity.json").read_text())["fallbacks"]
    assert stored[0]["layer"] == LAYER
    assert LAYER in (tmp_path / "good" / "parity.html").read_text()
    open_bundle(tmp_path / "good")  # its hashes fit the repaired graphs
    for name in ("model.int8.cpu.onnx", "model.int8.onnx", "model.int8.fp16.onnx"):
        assert pairs(tmp_path / "good" / name) < pairs(bundle / name)


def test_no_bundle_is_written_if_no_choice_of_layers_holds_the_budget(
    shallow: Path, spoiled: Path, tmp_path: Path
) -> None:
    options = ExportOptions("unetpp", str(shallow), "int8", calib_table=spoiled, max_iou_drop=-50.0)
    said: list[str] = []
    with pytest.raises(ParityError, match=r"no choice of layers in float holds that.*No bundle"):
        export_bundle(tmp_path / "bundle", options, report=said.append)
    assert any("in float" in line for line in said)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("emitter", [CPU, TENSORRT])
def test_badly_calibrated_layer_ranks_first(bundle: Path, spoiled: Path, emitter: Emitter) -> None:
    opened = open_bundle(bundle)
    prepare = Preprocessor(opened.manifest.input)
    images = [prepare([frame]) for frame in opened.golden().frames[:2]]
    reference = opened.model_path("fp32")
    ranked = rank_layers(reference, read_table(spoiled), images, emitter=emitter)
    assert ranked[0][0].name == LAYER
    assert [cost for _, cost in ranked] == sorted((cost for _, cost in ranked), reverse=True)
    assert len(ranked) == len(layers_of(load(reference)))


def test_layers_for_tensorrt_are_ranked_with_the_ends_of_an_engine(bundle: Path) -> None:
    """If nothing is in INT8, all that is lost is the rounding of the image and the logits."""
    opened = open_bundle(bundle)
    images = [Preprocessor(opened.manifest.input)([opened.golden().frames[0]])]

    def copy(source: Path, path: Path, *_: object, **__: object) -> None:
        shutil.copy(source, path)

    table, reference = read_table(bundle / TABLE_NAME), opened.model_path("fp32")
    for emitter, lossless in ((CPU, True), (TENSORRT, False)):
        ranked = rank_layers(reference, table, images, emitter=replace(emitter, quantize=copy))
        assert {cost < 1e-12 for _, cost in ranked} == {lossless}


@pytest.mark.parametrize("worst", [CPU, TENSORRT])
def test_layers_are_ranked_in_the_graph_that_loses_more(
    int8_bundle: Path, monkeypatch: pytest.MonkeyPatch, worst: Emitter
) -> None:
    bundle = open_bundle(int8_bundle)
    card = Checkpoint.open(int8_bundle / "checkpoint.safetensors").card
    asked: list[Emitter] = []

    def rank(*_: object, emitter: Emitter) -> list[tuple[Layer, float]]:
        asked.append(emitter)
        return []

    def loss(_: Judge, path: Path, flavour: str) -> Loss:
        return Loss(3.0 if flavour == worst.flavour else 2.0, 0.0)

    monkeypatch.setattr(budget, "rank_layers", rank)
    monkeypatch.setattr(Judge, "loss", loss)
    table, said = read_table(int8_bundle / TABLE_NAME), list[str]()
    samples = list(golden_samples(bundle))[:1]
    found = hold_budget(
        int8_bundle, table, samples, card, allowed=Loss(1.0, 1.0), report=said.append
    )
    assert (found, asked) == ((), [worst])
    assert sum("3.00 points lost" in line for line in said) == 1, "measured twice"


@pytest.mark.parametrize(
    ("points", "floats"),
    [(0.2, ["a", "b"]), (1.5, ["a", "b"]), (2.5, ["a"])],
    ids=["pixels alone are short", "both are short", "pixels can not be held"],
)
def test_pixels_are_held_too_if_some_layers_do(
    int8_bundle: Path, monkeypatch: pytest.MonkeyPatch, points: float, floats: list[str]
) -> None:
    """Layer a wins back the points, both win back the pixels, unless they can not be had.

    ONNX Runtime's graph loses nothing, and needs neither.
    """
    bundle = open_bundle(int8_bundle)
    card = Checkpoint.open(int8_bundle / "checkpoint.safetensors").card
    nodes = int8_nodes(load(int8_bundle / flavour_file("fp32")))
    layers = {"a": Layer("a", (nodes[0],)), "b": Layer("b", (nodes[1],))}
    written: list[dict[str, tuple[str, ...]]] = []
    chosen: list[tuple[str, ...]] = []

    def quantize(reference: Path, path: Path, table: object, *, nodes: tuple[str, ...]) -> None:
        chosen.append(nodes)

    def loss(_: Judge, path: Path, flavour: str) -> Loss:
        if flavour == CPU.flavour:
            return Loss(0.1, 0.5)
        left = sum(layer.readers[0] in chosen[-1] for layer in layers.values())
        in_int8 = layers["a"].readers[0] in chosen[-1]
        lowest = 1.5 if points > 2 else 0.5
        return Loss(points if in_int8 else 0.1, lowest + 0.4 * left)

    emitters = tuple(replace(emitter, quantize=quantize) for emitter in COMPARED)
    monkeypatch.setattr(budget, "COMPARED", emitters)
    monkeypatch.setattr(budget, "rank_layers", lambda *_, **__: [(e, 1.0) for e in layers.values()])
    monkeypatch.setattr(budget, "write_int8", lambda *_, **chosen: written.append(chosen))
    monkeypatch.setattr(Judge, "loss", loss)
    table, samples = read_table(int8_bundle / TABLE_NAME), list(golden_samples(bundle))[:1]
    allowed = Loss(0.5, 0.6)
    found = hold_budget(int8_bundle, table, samples, card, allowed=allowed, report=str)
    assert [fallback.layer for fallback in found] == floats
    (first,) = written
    names = set(nodes)
    assert set(first["cpu"]) == names
    assert names - set(first["tensorrt"]) == {layers[name].readers[0] for name in floats}


def test_layers_cover_all_int8_nodes(int8_bundle: Path) -> None:
    model = load(int8_bundle / flavour_file("fp32"))
    readers = {name for entry in layers_of(model) for name in entry.readers}
    assert readers == set(int8_nodes(model))
    assert set(tensorrt_nodes(model)) <= readers
