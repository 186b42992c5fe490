"""Edgeunet on ARM: emulated processors run bundles, and every dependency has a wheel."""

from __future__ import annotations

import http.client
import json
import os
import re
from pathlib import Path

import numpy as np
import pytest
from packaging.requirements import Requirement

from support.arm import WAIT, Board, arm_system, make_board, uv
from support.commands import ROOT, succeeds
from support.media import read_mask_png, write_video
from support.project import extras

pytestmark = pytest.mark.arm


@pytest.fixture(scope="session")
def system(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Files of an ARM Debian with the wheels for it; all workers of a session share them."""
    own = tmp_path_factory.getbasetemp()
    return arm_system(own.parent if "PYTEST_XDIST_WORKER" in os.environ else own)


@pytest.fixture
def board(request: pytest.FixtureRequest, system: Path, tmp_path: Path) -> Board:
    """A board of the processor that the test names."""
    (tmp_path / "board").mkdir()
    return make_board(getattr(request, "param", "cortex-a76"), system, tmp_path / "board")


@pytest.fixture
def film(tmp_path: Path) -> Path:
    return write_video(tmp_path / "film.mp4", count=3)


def masks(folder: Path) -> dict[str, np.ndarray]:
    """Masks by path, of all sources."""
    paths = sorted(folder.glob("[!.]*/[!.]*"))
    return {path.relative_to(folder).as_posix(): read_mask_png(path) for path in paths}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("board", "precision"),
    [
        ("cortex-a76", "fp32"),
        ("cortex-a72", "int8"),
        ("cortex-a76", "int8"),
        ("max", "int8"),
    ],
    indirect=["board"],
)
def test_masks_are_those_of_x86(
    board: Board, precision: str, int8_bundle: Path, images: Path, film: Path, tmp_path: Path
) -> None:
    command = ["run", int8_bundle, images, film, "--precision", precision, "-o"]
    succeeds(*command, tmp_path / "x86")
    board.succeeds(*command, tmp_path / "arm")
    wanted, found = masks(tmp_path / "x86"), masks(tmp_path / "arm")
    assert list(found) == list(wanted)
    assert len(wanted) == 8
    same = np.concatenate([(found[name] == wanted[name]).ravel() for name in wanted])
    assert same.mean() >= 0.999, f"{(~same).sum()} of {same.size} pixels differ"
    assert len(np.unique(np.concatenate([mask.ravel() for mask in wanted.values()]))) == 3


@pytest.mark.slow
def test_doctor_describes_the_board(board: Board) -> None:
    found = json.loads(board.succeeds("doctor", "--json"))
    assert found["environment"]["machine"] == "aarch64"
    assert found["environment"]["processor"] == board.processor.board
    assert found["warnings"] == []
    there = {part["name"] for part in found["parts"] if part["version"]}
    assert {"onnxruntime", "opencv-python-headless", "av", "starlette"} <= there
    assert not {"torch", "onnx"} & there
    (driver,) = [need for need in found["gpu"] if need["name"] == "GPU"]
    assert "libcuda.so.1" in driver["problem"]


@pytest.mark.slow
def test_serve_is_well(board: Board, int8_bundle: Path, images: Path, film: Path) -> None:
    process = board.start("-m", "edgeunet", "serve", int8_bundle, film, "--port", "0")
    try:
        assert process.stderr is not None
        line = process.stderr.readline()
        found = re.match(r"open http://127\.0\.0\.1:(\d+)/", line)
        assert found, line
        connection = http.client.HTTPConnection("127.0.0.1", int(found[1]), timeout=WAIT)
        connection.request("GET", "/healthz")
        answer = connection.getresponse()
        assert (answer.status, json.loads(answer.read())["status"]) == (200, "ok")
        connection.request("POST", "/segment", body=(images / "0.png").read_bytes())
        answer = connection.getresponse()
        assert (answer.status, json.loads(answer.read())["size"]) == (200, [50, 70])
        connection.close()
    finally:
        process.kill()
        process.communicate()


@pytest.mark.parametrize("python", ["3.10", "3.11", "3.12"])
def test_every_dependency_has_a_wheel(python: str) -> None:
    names = ("cpu", "video", "serve", "trt")
    options = [f"--extra={name}" for name in names]
    printed = uv("compile", str(ROOT / "pyproject.toml"), *options, "--no-annotate", python=python)
    lines = [line for line in printed.splitlines() if not line.startswith("#")]
    chosen = {each.name: str(each.specifier) for each in map(Requirement, lines)}
    there = {"platform_machine": "aarch64", "sys_platform": "linux", "python_version": python}
    required = [Requirement(line) for name in names for line in extras()[name]]
    wanted = {each.name for each in required if not each.marker or each.marker.evaluate(there)}
    assert {"numpy", "click", *wanted} <= chosen.keys()
    assert not {"pycuda", "tensorrt-cu12"} & chosen.keys()
    assert (chosen["onnxruntime"] == "==1.23.2") is (python == "3.10")
