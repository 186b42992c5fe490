"""`edgeunet doctor`."""

from __future__ import annotations

import sys

import onnx

from support.commands import data


def test_doctor_lists_parts_and_environment() -> None:
    found = data("doctor")
    parts = {part["name"]: part for part in found["parts"]}
    assert {"onnxruntime", "opencv-python-headless", "av", "torch", "onnx"} <= set(parts)
    assert parts["onnx"]["version"] == onnx.__version__
    assert parts["av"]["extra"] == "video"
    assert found["environment"]["python"] == sys.version.split()[0]
    assert int(found["environment"]["cores"]) >= 1
    assert all(isinstance(warning, str) for warning in found["warnings"])
