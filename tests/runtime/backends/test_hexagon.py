"""What Linux tells of Qualcomm's Hexagon, on files that stand in for a board's."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from edgeunet.runtime.backends import hexagon
from edgeunet.runtime.backends.hexagon import Hexagon, find_hexagon


@pytest.fixture
def board(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The files of a QCS6490 whose processors run; returns their folder."""
    (tmp_path / "compatible").write_bytes(b"qcom,qcs6490-rb3gen2\0qcom,qcm6490\0")
    for index, (name, state) in enumerate((("adsp", "offline"), ("cdsp", "running"))):
        folder = tmp_path / "remoteproc" / f"remoteproc{index}"
        folder.mkdir(parents=True)
        (folder / "name").write_text(f"{name}\n")
        (folder / "state").write_text(f"{state}\n")
    (tmp_path / "fastrpc-cdsp-secure").touch()
    monkeypatch.setattr(hexagon, "_COMPATIBLE", tmp_path / "compatible")
    monkeypatch.setattr(hexagon, "_PROCESSORS", tmp_path / "remoteproc")
    nodes = tuple(tmp_path / path.name for path in hexagon._NODES)
    monkeypatch.setattr(hexagon, "_NODES", nodes)
    return tmp_path


def test_board_is_known_by_soc_firmware_and_driver(board: Path) -> None:
    found = find_hexagon()
    assert found == Hexagon("qcs6490", "running", board / "fastrpc-cdsp-secure")
    assert found.problem is None
    assert "Here are qcs6490, onnxruntime " in hexagon.versions()


def test_node_that_needs_no_rights_is_taken_first(board: Path) -> None:
    (board / "fastrpc-cdsp").touch()
    assert find_hexagon().node == board / "fastrpc-cdsp"


def test_other_machines_have_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "compatible").write_bytes(b"raspberrypi,5-model-b\0brcm,bcm2712\0")
    for compatible in (tmp_path / "compatible", tmp_path / "missing"):
        monkeypatch.setattr(hexagon, "_COMPATIBLE", compatible)
        assert find_hexagon().soc is None


def test_firmware_that_does_not_run_is_told_first(board: Path) -> None:
    (board / "fastrpc-cdsp-secure").unlink()
    (board / "remoteproc/remoteproc1/state").write_text("crashed\n")
    assert "its firmware is not running but crashed" in str(find_hexagon().problem)


def test_missing_driver_is_told(board: Path) -> None:
    (board / "fastrpc-cdsp-secure").unlink()
    assert "the kernel lacks the driver FastRPC" in str(find_hexagon().problem)


def test_node_of_others_is_told(board: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    assert "fastrpc-cdsp-secure is not for this user: join the group" in str(find_hexagon().problem)
