"""Target `onnx`: its page says what the graph takes, and the code on it runs."""

from __future__ import annotations

import re
from pathlib import Path

import onnxruntime
import pytest

from edgeunet.exporting.deploy import DeployOptions, deploy


def test_code_on_the_page_runs(
    int8_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    deploy(int8_bundle, "onnx", tmp_path / "out")
    page = (tmp_path / "out" / "README.md").read_text()
    assert "| in | `frames` | uint8 (N, H, W, 3): red, green, blue; 64x96 |" in page
    (code,) = re.findall("```python\n(.*?)```", page, re.DOTALL)
    monkeypatch.chdir(tmp_path / "out")
    found: dict[str, object] = {}
    exec(code, found)
    assert found["masks"].shape == (1, 64, 96)  # type: ignore[attr-defined]


def test_frames_of_any_size_and_confidence(fp32_bundle: Path, tmp_path: Path) -> None:
    deploy(fp32_bundle, "onnx", tmp_path / "out", DeployOptions(pixels="any", confidence=True))
    session = onnxruntime.InferenceSession(tmp_path / "out" / "model.onnx")
    assert [each.name for each in session.get_outputs()] == ["masks", "confidence"]
    page = (tmp_path / "out" / "README.md").read_text()
    assert "; any size, one in each batch |" in page
    assert "| out | `confidence` | uint8 (N, H, W): 255 for 1 |" in page
