"""`edgeunet lint`: exit codes and what it prints."""

from __future__ import annotations

import json
from pathlib import Path

import onnx
import pytest

from support.commands import call
from support.lint_graphs import Sketch


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A graph that TensorRT 8.x misreads, that others are warned of, and ONNX Runtime takes."""
    sketch = Sketch(18)
    sketch.shape = [1, 4, "height", 8]
    sketch.node("Relu", ["data"])
    onnx.save(sketch.model(), tmp_path / "net.onnx")
    return tmp_path / "net.onnx"


def test_clean_file(file: Path) -> None:
    result = call("lint", file, "--target", "ort-cpu")
    assert (result.exit_code, result.stdout) == (0, "net.onnx for ort-cpu: 0 errors, 0 warnings\n")


def test_warnings_do_not_fail(file: Path) -> None:
    result = call("lint", file, "--target", "trt10")
    assert result.exit_code == 0
    assert "net.onnx for trt10: 0 errors, 1 warnings\n  warning dynamic-size: " in result.stdout


def test_errors_fail(file: Path) -> None:
    result = call("lint", file, "--target", "trt8.6")
    assert result.exit_code == 1
    assert "error opset: opset 18; TensorRT 8.x reads 17 at most." in result.stdout


def test_one_bad_target_of_several_fails(file: Path) -> None:
    result = call("lint", file, "--target", "trt8.6", "--target", "ort-cpu")
    assert result.exit_code == 1
    assert "for trt8.6: 1 errors" in result.stdout
    assert "for ort-cpu: 0 errors" in result.stdout


def test_json(file: Path) -> None:
    result = call("lint", file, "--target", "ort-cpu", "--target", "trt8.6", "--json")
    assert result.exit_code == 1
    data = json.loads(result.stdout)
    assert data["ok"] is False
    assert [(each["target"], each["ok"]) for each in data["reports"]] == [
        ("ort-cpu", True),
        ("trt8.6", False),
    ]
    first = data["reports"][1]["findings"][0]
    assert (first["rule"], first["severity"], first["node"]) == ("opset", "error", "")
    assert set(first) == {"rule", "severity", "node", "message"}


@pytest.mark.parametrize("arguments", [[], ["--target", "trt9"]])
def test_target_must_be_a_known_one(file: Path, arguments: list[str]) -> None:
    result = call("lint", file, *arguments)
    assert (result.exit_code, result.stdout) == (2, "")
    assert "trt8.6" in result.stderr


def test_file_that_is_no_model(tmp_path: Path) -> None:
    (tmp_path / "a.onnx").write_text("hello")
    result = call("lint", tmp_path / "a.onnx", "--target", "rtx")
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.startswith("error: ")
    assert "is not an ONNX model" in result.stderr
