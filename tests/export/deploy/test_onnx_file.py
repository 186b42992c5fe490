"""Target `onnx`: its page says what the graph takes, and the code on it runs."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import onnxruntime

from edgeunet.data.cells import CLASSES
from edgeunet.exporting.deploy import DeployOptions, deploy
from edgeunet.runtime import load
from support.commands import ROOT, run_quietly
from support.media import numbered_frame, read_mask_png, write_png


def test_code_on_the_page_runs(int8_bundle: Path, tmp_path: Path) -> None:
    deploy(int8_bundle, "onnx", tmp_path / "out")
    page = (tmp_path / "out" / "README.md").read_text()
    assert "| in | `frames` | uint8 (N, H, W, 3): red, green, blue; 64x96 |" in page
    (code,) = re.findall("```python\n(.*?)```", page, re.DOTALL)
    code += "print(masks.shape)"
    assert run_quietly(tmp_path / "out", sys.executable, "-c", code) == "(1, 64, 96)\n"


def test_frames_of_any_size_and_confidence(fp32_bundle: Path, tmp_path: Path) -> None:
    deploy(fp32_bundle, "onnx", tmp_path / "out", DeployOptions(pixels="any", confidence=True))
    session = onnxruntime.InferenceSession(tmp_path / "out" / "model.onnx")
    assert [each.name for each in session.get_outputs()] == ["masks", "confidence"]
    page = (tmp_path / "out" / "README.md").read_text()
    assert "; any size, one in each batch |" in page
    assert "| out | `confidence` | uint8 (N, H, W): 255 for 1 |" in page


def test_example_writes_the_runtimes_masks(fp32_bundle: Path, tmp_path: Path) -> None:
    deploy(fp32_bundle, "onnx", tmp_path / "out", DeployOptions(pixels="any"))
    frames = [numbered_frame(1, (60, 44)), numbered_frame(2, (96, 64))]
    images = [write_png(tmp_path / f"{i}.png", frame) for i, frame in enumerate(frames)]
    example = ROOT / "examples/onnx/segment.py"
    said = run_quietly(tmp_path, sys.executable, example, "out/model.onnx", "masks", *images)
    assert re.search(rf"1\.png: ({'|'.join(CLASSES)}) [\d.]+%", said)
    with load(fp32_bundle) as segmenter:
        for image, frame in zip(images, frames, strict=True):
            expected = segmenter(frame[None]).masks[0]
            found = read_mask_png(tmp_path / "masks" / image.name)
            assert found.shape == expected.shape
            assert (found == expected).mean() >= 0.999
