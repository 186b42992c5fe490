"""Graphs from frames to masks are compared with the runtime, and a wrong one is named."""

from __future__ import annotations

import json
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import onnx
import pytest

from edgeunet.bundle.bundle import open_bundle
from edgeunet.bundle.manifest import InputSpec
from edgeunet.errors import ParityError
from edgeunet.exporting import ExportOptions, export_bundle
from edgeunet.exporting.proof import Proof
from edgeunet.parity import ParityReport, golden_samples, measure
from edgeunet.parity.pixels import PixelsCollector, PixelsParity, frame_for
from edgeunet.runtime.backends.ort import open_flavour
from support.commands import call, data, fails
from support.exports import edited_bundle


def export(checkpoint: Path, folder: Path, **options: str) -> Path:
    chosen = ExportOptions("unetpp", str(checkpoint), precision="fp16", **options)  # type: ignore[arg-type]
    export_bundle(folder / "bundle", chosen)
    return folder / "bundle"


@pytest.fixture(scope="module")
def bundle(shallow: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return export(shallow, tmp_path_factory.mktemp("pixels"), pixels="fixed")


def report_of(bundle: Path) -> ParityReport:
    opened = open_bundle(bundle)
    return measure(opened, golden_samples(opened), data="golden")[0]


def negated(bundle: Path) -> str:
    """Turn the logits of one graph round, as a fault in it would."""
    path = bundle / "model.fp32.pixels.onnx"
    model = onnx.load(path)
    nodes = model.graph.node
    index = next(i for i, node in enumerate(nodes) if "logits" in node.input)
    nodes[index].input[0] = "turned"
    nodes.insert(index, onnx.helper.make_node("Neg", ["logits"], ["turned"]))
    onnx.save(model, path)
    return path.name


def test_graphs_of_all_flavours_are_compared(bundle: Path) -> None:
    report = report_of(bundle)
    assert [graph.name for graph in report.pixels] == ["pixels fp32", "pixels fp16"]
    assert report.pixels[0].agreement >= 0.9999
    assert all(graph.ok for graph in report.pixels)
    assert report.first_failure is None
    assert "of the runtime's masks; " in report.table()
    listed = report.to_json()["pixels"]
    assert isinstance(listed, list)
    assert [entry["ok"] for entry in listed] == [True, True]
    assert json.loads((bundle / "parity.json").read_text())["pixels"][0]["name"] == "pixels fp32"
    assert "pixels fp16" in (bundle / "parity.html").read_text()


def test_a_wrong_graph_is_named_and_ends_an_export(bundle: Path, tmp_path: Path) -> None:
    wrong = edited_bundle(bundle, tmp_path, negated)
    report = report_of(wrong)
    assert report.first_failure == "pixels fp32"
    assert report.pixels[0].agreement < 0.9
    assert "OUT OF TOLERANCE" in report.table()
    with pytest.raises(ParityError, match=r"pixels fp32 gives .* expected 99\.90%.* --pixels"):
        Proof.check(None, report)  # type: ignore[arg-type]


def test_a_changed_graph_is_refused_by_its_hash(bundle: Path, tmp_path: Path) -> None:
    copy = edited_bundle(bundle, tmp_path, lambda copy: "none")
    negated(copy)
    assert "model.fp32.pixels.onnx has SHA-256" in fails(1, "inspect", copy)


def test_commands_show_the_graphs(bundle: Path, fp32_bundle: Path) -> None:
    files = data("inspect", bundle)["files"]
    assert {"model.fp32.pixels.onnx", "model.fp16.pixels.onnx"} <= {*files}
    assert "pixels      fp32, fp16\n" in call("inspect", bundle).stdout
    assert "pixels      none; `edgeunet export --pixels" in call("inspect", fp32_bundle).stdout


def test_graphs_of_any_size_are_compared_on_frames_as_they_are(
    shallow: Path, tmp_path: Path
) -> None:
    opened = open_bundle(export(shallow, tmp_path, pixels="any", pixels_confidence=True))  # type: ignore[arg-type]
    frame = opened.golden().frames[0]
    with ExitStack() as stack:
        backend = stack.enter_context(open_flavour(opened, "fp32"))
        collector = PixelsCollector.of_bundle(opened, {"fp32": backend}, stack, deployed={})
        assert collector.results() == ()
        for shown in (frame, frame[:41, :53]):
            collector.add(np.ascontiguousarray(shown))
        (found,) = collector.results()
    assert found.name == "pixels fp32"
    assert found.agreement == pytest.approx(1 - found.differing / (64 * 96 + 41 * 53))
    assert found.ok


@pytest.mark.parametrize(("agreement", "ok"), [(0.999, True), (0.9989, False)])
def test_enough_pixels_must_be_equal(agreement: float, ok: bool) -> None:
    assert PixelsParity("pixels fp32", agreement, 1, 0.999).ok is ok


FOUR = InputSpec(8, 8, channels=("a", "b", "c", "d"), mean=(0.0,) * 4, std=(1.0,) * 4)


@pytest.mark.parametrize(
    ("shape", "spec", "wanted"),
    [
        ((5, 7, 3), InputSpec(8, 8), (8, 8, 3)),
        ((5, 7, 1), InputSpec(8, 8, channels=("gray",)), (8, 8, 3)),
        ((8, 8, 4), FOUR, (8, 8, 4)),
    ],
)
def test_frames_become_what_a_graph_takes(
    shape: tuple[int, ...], spec: InputSpec, wanted: tuple[int, ...]
) -> None:
    frame = np.full(shape, 9, np.uint8)
    found = frame_for(frame, spec, any_size=False)
    assert found.shape == wanted
    assert (found == 9).all()
    assert frame_for(frame, spec, any_size=True).shape == (*shape[:2], wanted[2])
