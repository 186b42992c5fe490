"""`edgeunet doctor`."""

from __future__ import annotations

import re
import sys
from dataclasses import replace
from pathlib import Path

import onnx
import pytest

from edgeunet import doctor
from edgeunet.runtime.backends import hexagon, openvino_library, rknn
from support.commands import data, succeeds


def test_doctor_lists_parts_and_environment() -> None:
    found = data("doctor")
    parts = {part["name"]: part for part in found["parts"]}
    assert {"onnxruntime", "opencv-python-headless", "av", "torch", "onnx"} <= set(parts)
    assert parts["onnx"]["version"] == onnx.__version__
    assert parts["av"]["extra"] == "video"
    assert found["environment"]["python"] == sys.version.split()[0]
    assert int(found["environment"]["cores"]) >= 1
    assert all(isinstance(warning, str) for warning in found["warnings"])


def test_doctor_says_what_processor_and_openvino_compute_in(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pytest.importorskip("openvino", reason="needs the extra [openvino]")
    flags = {"flags": "fpu amx_int8 avx512_vnni avx_vnni avx512_bf16", "model name": "Xeon"}
    monkeypatch.setattr(doctor, "_cpu_field", lambda name: flags.get(name, ""))
    out = succeeds("doctor").stdout
    assert re.search(r"^  instructions +INT8 by AMX and VNNI, BF16 by AVX-512, no FP16$", out, re.M)
    assert re.search(r"^on OpenVINO's CPU: .*, FP32 .*INT8$", out, re.M)
    found = data("doctor")
    assert found["instructions"] == {"INT8": ["AMX", "VNNI"], "BF16": ["AVX-512"], "FP16": []}
    assert "CPU" in found["openvino"]["devices"] and found["openvino"]["problem"] is None
    flags.clear()
    assert "instructions  " not in succeeds("doctor").stdout
    monkeypatch.setattr(openvino_library, "MAJOR", 1)
    assert "on OpenVINO: OpenVINO 20" in succeeds("doctor").stdout


def test_doctor_names_the_npu_of_a_board(monkeypatch: pytest.MonkeyPatch) -> None:
    assert data("doctor")["rockchip"] is None
    assert "Rockchip's NPU:" not in succeeds("doctor").stdout
    monkeypatch.setattr(rknn, "find_npu", lambda: rknn.Npu("rk3588", "0.9.8"))
    assert "on Rockchip's NPU: rk3588, driver 0.9.8; " in succeeds("doctor").stdout
    assert data("doctor")["rockchip"] == {"soc": "rk3588", "driver": "0.9.8"}
    monkeypatch.setattr(rknn, "find_npu", lambda: rknn.Npu("rk3566", None))
    assert "on Rockchip's NPU: rk3566, driver unknown; " in succeeds("doctor").stdout


def test_doctor_names_hexagon_and_what_keeps_programs_from_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert data("doctor")["qualcomm"] is None
    assert "Hexagon" not in succeeds("doctor").stdout
    node = tmp_path / "fastrpc-cdsp"
    node.touch()
    board = hexagon.Hexagon("qcs6490", "running", node)
    monkeypatch.setattr(hexagon, "find_hexagon", lambda: board)
    assert f"on Qualcomm's Hexagon: qcs6490, reached by {node}" in succeeds("doctor").stdout
    monkeypatch.setattr(hexagon, "find_hexagon", lambda: replace(board, state="offline"))
    assert "qcs6490, its firmware is not running but offline: " in succeeds("doctor").stdout
    assert data("doctor")["qualcomm"]["node"] == str(node)
