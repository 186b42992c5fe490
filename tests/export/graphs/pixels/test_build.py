"""Graphs from frames to masks: all variants and flavours, and what is refused."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import onnx
import pytest

from edgeunet.bundle.bundle import Bundle, open_bundle
from edgeunet.bundle.manifest import Flavour, InputSpec
from edgeunet.bundle.steps import ImageStatistics, Window
from edgeunet.errors import BundleError, UsageError
from edgeunet.exporting.graphs.pixels import PixelsForm, check_form, write_pixels
from edgeunet.exporting.graphs.trace import trace
from edgeunet.exporting.lint import lint_all
from edgeunet.exporting.lint.linter import TARGETS
from edgeunet.runtime.backends.ort import open_flavour
from edgeunet.runtime.frames import Batch
from support.pixels import Small, assert_runtime_masks, noise, run_pixels
from support.variants import SIZE_MULTIPLE, VARIANTS, shared

FORMS = [PixelsForm(), PixelsForm(any_size=True)]


@pytest.mark.parametrize("name", VARIANTS)
def test_every_variant_with_and_without_a_gate(name: str, tmp_path: Path) -> None:
    side = SIZE_MULTIPLE[name]
    spec = InputSpec(side, 2 * side)
    path = tmp_path / "net.onnx"
    trace(shared(name, cgm=True), path, height=side, width=2 * side, channels=3)
    model = onnx.load(path)
    for gate in (None, (0.0, 0.5, 0.5)):
        small = Small.around(model, spec, 3, gate)
        for form in FORMS:
            size = (side + 7, 40) if form.any_size else None
            assert_runtime_masks(small, small.pixels(form), noise(spec, size=size))


@pytest.mark.parametrize("form", FORMS)
def test_every_flavour_of_a_bundle_gives_the_runtimes_masks(
    form: PixelsForm, gated_bundle: Path, tmp_path: Path
) -> None:
    bundle = open_bundle(gated_bundle)
    frames = list(bundle.golden().frames)
    if form.any_size:
        frames = [cv2.resize(frame, (81, 50)) for frame in frames]
    for flavour in bundle.manifest.flavours:
        path = tmp_path / f"{flavour}.onnx"
        write_pixels(bundle, flavour, path, form)
        with open_flavour(bundle, flavour) as backend:
            expected = backend.segment(Batch.of(frames))
        found = run_pixels(onnx.load(path), frames)
        wanted = 0.98 if flavour in ("int8", "int8.fp16") else 0.999
        assert (found["masks"] == expected.masks).mean() >= wanted, flavour
        assert expected.masks.any(), "nothing to test"
        for report in lint_all(path, TARGETS[flavour]):
            assert report.ok, report.table()


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("classes", [1, 2, 3, 8])
def test_tensorrt_parses_what_is_meant_for_it(classes: int, form: PixelsForm) -> None:
    trt = pytest.importorskip("tensorrt_rtx_bindings", reason="TensorRT-RTX is not installed")
    builder = trt.Builder(trt.Logger(trt.Logger.INTERNAL_ERROR))
    small = Small.of(InputSpec(16, 24), classes, (0.5,) * classes, stride=2)
    flavours: tuple[Flavour, ...] = ("fp32", "fp16", "int8", "int8.fp16")
    for flavour in flavours:
        model = small.pixels(replace(form, confidence=True), flavour=flavour)
        network = builder.create_network(0)
        parser = trt.OnnxParser(network, builder.logger)
        parsed = parser.parse(model.SerializeToString())
        problems = [parser.get_error(index).desc() for index in range(parser.num_errors)]
        assert parsed, (flavour, problems)
        outputs = [network.get_output(index) for index in range(network.num_outputs)]
        assert [each.name for each in outputs] == ["masks", "presence", "confidence"]
        assert outputs[0].dtype == outputs[2].dtype == trt.DataType.UINT8


def _changed(bundle: Path, **changes: object) -> Bundle:
    opened = open_bundle(bundle)
    spec = replace(opened.manifest.input, **changes)  # type: ignore[arg-type]
    return replace(opened, manifest=replace(opened.manifest, input=spec))


@pytest.mark.parametrize(
    ("changes", "form", "words"),
    [
        ({"window": Window()}, FORMS[0], "windows every 0.5 of their side.*edgeunet run"),
        ({"statistics": ImageStatistics()}, FORMS[0], "mean and deviation of each channel of each"),
        ({"filter": "pillow"}, FORMS[1], "filter pillow.*opset 17 has bilinear alone. A graph for"),
        ({"filter": "area", "height": 52, "resize": "pad"}, FORMS[0], "area.*multiples of 8"),
    ],
)
def test_inputs_that_a_graph_cannot_make_are_refused_by_name(
    changes: dict[str, object], form: PixelsForm, words: str, fp32_bundle: Path, tmp_path: Path
) -> None:
    bundle = _changed(fp32_bundle, **changes)
    with pytest.raises(UsageError, match=words):
        write_pixels(bundle, "fp32", tmp_path / "net.onnx", form)
    assert list(tmp_path.iterdir()) == []


def test_any_filter_does_for_frames_of_the_nets_size() -> None:
    for each in ("antialias", "pillow", "pillow_bicubic", "torchvision", "area"):
        check_form(InputSpec(60, 64, filter=each), PixelsForm())  # type: ignore[arg-type]


def test_a_flavour_that_the_bundle_lacks_is_named(fp32_bundle: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"expected a bundle with int8\.cpu.*holds fp32"):
        write_pixels(open_bundle(fp32_bundle), "int8.cpu", tmp_path / "net.onnx")


def test_a_graph_that_was_changed_after_opening_is_refused(
    fp32_bundle: Path, tmp_path: Path
) -> None:
    bundle = open_bundle(shutil.copytree(fp32_bundle, tmp_path / "copy"))
    with (bundle.root / "model.fp32.onnx").open("ab") as file:
        file.write(b"\0")
    with pytest.raises(BundleError, match=r"model\.fp32\.onnx has SHA-256"):
        write_pixels(bundle, "fp32", tmp_path / "net.onnx")


def test_a_batch_of_any_number_of_frames() -> None:
    spec = InputSpec(8, 8)
    model = Small.of(spec).pixels()
    frames = noise(spec, count=5)
    together = run_pixels(model, frames)["masks"]
    alone = [run_pixels(model, [frame])["masks"][0] for frame in frames]
    np.testing.assert_array_equal(together, alone)
