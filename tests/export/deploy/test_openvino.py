"""Target `openvino`: the model runs in OpenVINO, and what it does not take is named."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from edgeunet.bundle.bundle import open_bundle
from edgeunet.bundle.manifest import Flavour
from edgeunet.errors import ExportError, MissingDependencyError, OutputError, ParityError
from edgeunet.exporting.deploy import DeployOptions, deploy
from edgeunet.exporting.deploy import openvino as openvino_target
from edgeunet.parity.pixels import MasksOf
from edgeunet.runtime import load
from support.commands import ROOT, run_quietly
from support.media import numbered_frame, write_png
from support.small_bundle import names

openvino = pytest.importorskip("openvino", reason="needs the extra [openvino]")


def test_code_on_the_page_gives_the_runtimes_masks(int8_bundle: Path, tmp_path: Path) -> None:
    output = tmp_path / "out"
    assert deploy(int8_bundle, "openvino", output) == ("int8.openvino",)
    assert names(output) == ["README.md", "deployment.json", "model.bin", "model.xml"]
    (code,) = re.findall("```python\n(.*?)```", (output / "README.md").read_text(), re.DOTALL)
    frames = open_bundle(int8_bundle).golden().frames
    np.save(tmp_path / "frames.npy", frames)
    code += 'np.save("../masks.npy", model({"frames": np.load("../frames.npy")})["masks"])'
    run_quietly(output, sys.executable, "-c", code)
    with load(int8_bundle) as segmenter:
        expected = segmenter(frames).masks
    assert (np.load(tmp_path / "masks.npy") == expected).mean() >= 0.99
    info = openvino.Core().read_model(output / "model.xml").get_rt_info(["model_info", "labels"])
    assert info.astype(str).split() == ["background", "cell", "dividing"]


def test_frames_of_any_size(fp32_bundle: Path, tmp_path: Path) -> None:
    options = DeployOptions(pixels="any", confidence=True)
    deploy(fp32_bundle, "openvino", tmp_path / "out", options)
    model = openvino.Core().compile_model(tmp_path / "out" / "model.xml", "CPU")
    frames = np.zeros((2, 50, 70, 3), np.uint8)
    answers = model({"frames": frames})
    assert answers["masks"].shape == answers["confidence"].shape == (2, 50, 70)


def test_example_writes_the_runtimes_masks(fp32_bundle: Path, tmp_path: Path) -> None:
    deploy(fp32_bundle, "openvino", tmp_path / "out", DeployOptions(pixels="any"))
    frames = [numbered_frame(1, (60, 44)), numbered_frame(2, (96, 64))]
    images = [write_png(tmp_path / f"{i}.png", frame) for i, frame in enumerate(frames)]
    example = ROOT / "examples/openvino/segment.py"
    run_quietly(tmp_path, sys.executable, example, "out/model.xml", "masks", *images)
    with load(fp32_bundle) as segmenter:
        for image, frame in zip(images, frames, strict=True):
            expected = segmenter(frame[None]).masks[0]
            found = np.asarray(Image.open(tmp_path / "masks" / image.name))
            assert found.shape == expected.shape
            assert (found == expected).mean() >= 0.999


def test_other_masks_are_refused(
    fp32_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = openvino_target._runner

    def wrong(folder: Path, flavour: Flavour) -> MasksOf:
        return lambda frames: 1 - run(folder, flavour)(frames)

    monkeypatch.setattr(openvino_target, "_runner", wrong)
    with pytest.raises(ParityError, match=r"model\.xml gives .* expected 99\.90%"):
        deploy(fp32_bundle, "openvino", tmp_path / "out")
    assert names(tmp_path) == []


def test_graph_that_it_does_not_take_and_a_missing_package_are_named(
    fp32_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*arguments: object, **options: object) -> None:
        raise RuntimeError("Exception from core.cpp:132:\nCheck failed: no such operation\n\n")

    with monkeypatch.context() as patch:
        patch.setattr(openvino_target, "_runner", refuse)
        with pytest.raises(ExportError, match=r"does not take the graph fp32: Check failed: no su"):
            deploy(fp32_bundle, "openvino", tmp_path / "out")
        patch.setattr(openvino, "save_model", refuse)
        with pytest.raises(OutputError, match=r"write model\.xml: Check failed: .*disk is full"):
            deploy(fp32_bundle, "openvino", tmp_path / "out")
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(MissingDependencyError, match=r"pip install .*openvino"):
        deploy(fp32_bundle, "openvino", tmp_path / "out")
    assert names(tmp_path) == []
