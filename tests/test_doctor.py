"""What the doctor says of packages and of OpenCV."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import cv2
import pytest

from edgeunet import doctor
from edgeunet import extras as packages
from support.commands import ROOT, data, finish, start, succeeds
from support.project import extras

OF_THE_GPU = {"pycuda", "tensorrt-cu12", "tensorrt-rtx-cu13-bindings"}  # said in its section
Lacking = Callable[..., None]


@pytest.fixture
def lacking(monkeypatch: pytest.MonkeyPatch) -> Lacking:
    """Takes distributions away from what this Python has installed."""

    def take(*names: str) -> None:
        def installed(name: str) -> str:
            if name in names:
                raise PackageNotFoundError(name)
            return version(name)

        monkeypatch.setattr(packages, "version", installed)
        monkeypatch.setattr(packages.importlib.util, "find_spec", lambda name: None)

    return take


def test_every_package_of_an_extra_is_looked_for() -> None:
    lists = (names for extra, names in extras().items() if extra != "docs")  # of developers
    named = [name for names in lists for name in names if ">=" in name]
    wanted = {re.split(r"[\[>]", name)[0] for name in named}
    assert {"onnxruntime", "torch", "uvicorn", "tensorrt-cu12"} <= wanted
    parts = {part["name"]: part for part in data("doctor")["parts"]}
    assert parts.keys() == wanted - OF_THE_GPU
    assert all(part["name"] in " ".join(extras()[part["extra"]]) for part in parts.values())
    assert all(part["purpose"] for part in parts.values())


def test_missing_packages_are_told_with_their_command_in_columns(lacking: Lacking) -> None:
    lacking("uvicorn", "av")
    out = succeeds("doctor").stdout
    assert re.search(r"^uvicorn +missing +serve; pip install '\.\[serve\]'$", out, re.M)
    assert re.search(r"^av +missing +run, serve: .*; pip install '\.\[video\]'$", out, re.M)
    rows = out[out.index("onnxruntime") : out.index("on a GPU")].splitlines()
    rows = [row for row in rows if not row.startswith("note: ")]
    columns = {re.match(r".{31}\S+ +", row).end() for row in rows}  # type: ignore[union-attr]
    assert len(columns) == 1, rows


@pytest.mark.parametrize(("has", "words"), [(True, "yes"), (False, "no")])
def test_gstreamer_of_opencv_is_told_and_what_takes_it(
    monkeypatch: pytest.MonkeyPatch, has: bool, words: str
) -> None:
    monkeypatch.setattr(cv2.videoio_registry, "hasBackend", lambda backend: has)
    assert data("doctor")["gstreamer"] is has
    out = succeeds("doctor").stdout
    assert re.search(rf"^  with GStreamer +{words} +run, serve: csi:// and gst: sources", out, re.M)


def test_opencv_that_cannot_be_loaded_is_told(tmp_path: Path) -> None:
    (tmp_path / "cv2.py").write_text("raise ImportError('libGL.so.1: cannot open')")
    paths = os.pathsep.join([str(tmp_path), str(ROOT)])
    code, out, err = finish(start("doctor", env={**os.environ, "PYTHONPATH": paths}))
    assert (code, err) == (0, "")
    assert "OpenCV is installed, but cannot be loaded: libGL.so.1: cannot open." in out
    assert "'numpy<2'" in out and "GStreamer" not in out


@pytest.mark.parametrize(
    ("text", "lacks"),
    [
        ("processor : 0\nflags\t\t: fpu sse4_2 avx2 fma\n", True),
        ("processor : 0\nflags\t\t: fpu avx2 avx512f avx512_vnni\n", False),
        ("processor : 0\nflags\t\t: fpu avx2 avx_vnni\n", False),
        ("processor : 0\nFeatures\t: fp asimd asimddp\n", False),
        ("", False),
    ],
)
def test_vnni_is_read_from_the_flags(
    text: str, lacks: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "cpuinfo").write_text(text)
    monkeypatch.setattr(doctor, "_CPUINFO", tmp_path / "cpuinfo")
    assert doctor.lacks_vnni() is lacks
    warned = any("has no VNNI" in warning for warning in doctor.diagnose().warnings)
    assert warned is lacks


def test_without_cpuinfo_vnni_is_assumed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "_CPUINFO", tmp_path / "missing")
    assert not doctor.lacks_vnni()


@pytest.mark.parametrize(
    ("model", "cpuinfo", "shown"),
    [
        (
            "Raspberry Pi 5 Model B Rev 1.0\0",
            "Features\t: asimd asimddp\n",
            "Raspberry Pi 5 Model B Rev 1.0",
        ),
        # JetPack's kernel gives all of its processors the same name.
        (
            "NVIDIA Jetson AGX Orin\0",
            "model name\t: ARMv8 Processor rev 1 (v8l)\n",
            "NVIDIA Jetson AGX Orin",
        ),
        (None, "model name\t: AMD EPYC\n", "AMD EPYC"),
        (None, "Features\t: asimd asimddp\n", "unknown"),
    ],
)
def test_processor_is_named_by_its_board_or_by_linux(
    model: str | None,
    cpuinfo: str,
    shown: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if model is not None:
        (tmp_path / "model").write_text(model)
    (tmp_path / "cpuinfo").write_text(cpuinfo)
    monkeypatch.setattr(doctor, "_BOARD", tmp_path / "model")
    monkeypatch.setattr(doctor, "_CPUINFO", tmp_path / "cpuinfo")
    monkeypatch.setattr("platform.processor", lambda: "")
    assert doctor.environment()["processor"] == shown


@pytest.mark.parametrize(
    ("text", "other"),
    [
        ("model name\t: Made Up\nflags\t\t: sse avx2\n", "avx512_vnni"),
        ("CPU part\t: 0xd42\nFeatures\t: fp asimd\n", "asimddp"),
    ],
)
def test_processors_are_told_apart_by_their_instructions(
    text: str, other: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(doctor, "_CPUINFO", tmp_path / "cpuinfo")
    found = []
    for words in (text, text[:-1] + f" {other}\n", text):
        (tmp_path / "cpuinfo").write_text(words)
        found.append(doctor.processor_identity())
    assert found[0] == found[2] != found[1]
    assert all(found[0].values())
