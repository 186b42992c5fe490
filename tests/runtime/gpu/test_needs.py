"""What the doctor says of a GPU."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from edgeunet.runtime.gpu import libcuda, needs
from edgeunet.runtime.gpu.kernels import shipped
from support.commands import succeeds
from support.gpu_machine import GpuMachine, gpu_machine


@pytest.fixture
def machine() -> Iterator[GpuMachine]:
    """A Jetson with all that it takes.

    Not by the test's own monkeypatch, which would put back in the end what it found here.
    """
    with gpu_machine() as made, pytest.MonkeyPatch.context() as patch:
        patch.setattr(needs, "find_nvcc", lambda: "/usr/local/cuda/bin/nvcc")
        yield made


def problems() -> dict[str, str]:
    return {need.name: need.problem for need in needs.gpu_needs() if need.problem is not None}


def test_machine_that_has_everything(machine: GpuMachine) -> None:
    found = {need.name: need.found for need in needs.gpu_needs()}
    assert found == {
        "GPU": "Orin (sm87), driver of CUDA 12.6, 1.1 GB free",
        "driver calls": "by ctypes",
        "TensorRT": "10.3.0",
        "nvcc": "/usr/local/cuda/bin/nvcc",
    }
    out = succeeds("doctor").stdout
    assert "on a GPU: TensorRT runs" in out
    assert "Orin (sm87)" in out


def test_each_thing_that_is_missing_is_named_with_its_fix(
    machine: GpuMachine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    monkeypatch.setattr(needs, "find_nvcc", lambda: None)
    monkeypatch.setattr(needs, "is_installed", lambda name: False)
    found = problems()
    assert sorted(found) == ["TensorRT"]
    assert "pip install '.[trt]'" in found["TensorRT"] and "JetPack" in found["TensorRT"]
    out = succeeds("doctor").stdout
    assert "on a GPU: TensorRT does not run. Missing:" in out
    assert all(problem in out for problem in found.values())


def nvcc() -> str | None:
    return next(need.found for need in needs.gpu_needs() if need.name == "nvcc")


def test_gpu_with_shipped_kernels_needs_no_nvcc(
    machine: GpuMachine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(needs, "find_nvcc", lambda: None)
    assert problems() == {}
    assert nvcc() == "not found, and Orin (sm87) does not need it"
    assert "not found, and Orin (sm87) does not need it" in succeeds("doctor").stdout


@pytest.mark.usefixtures("machine")
def test_gpu_without_shipped_kernels_needs_nvcc(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(needs, "find_nvcc", lambda: None)
    with gpu_machine(name="Xavier", capability=(7, 2)):
        assert list(problems()) == ["nvcc"]
        assert "kernels for sm72 must be compiled: those that come with" in problems()["nvcc"]
        assert "Install the CUDA toolkit" in problems()["nvcc"]
        out = succeeds("doctor").stdout
        assert "on a GPU: TensorRT runs" in out, "bundles that hold such kernels do"
        assert problems()["nvcc"] in out


@pytest.mark.usefixtures("machine")
def test_without_a_gpu_it_is_told_which_ones_need_nvcc(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(needs, "find_nvcc", lambda: None)
    with gpu_machine(devices=0):
        assert list(problems()) == ["GPU"]
        assert str(nvcc()).startswith("not found; only GPUs other than sm75, sm80, ")


def test_damage_to_the_shipped_kernels_is_told(
    machine: GpuMachine, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(needs, "find_nvcc", lambda: None)
    monkeypatch.setattr(shipped, "CUBINS", tmp_path)
    assert "index.json, a part of edgeunet, cannot be read" in problems()["nvcc"]


def calls() -> str | None:
    return next(need.found for need in needs.gpu_needs() if need.name == "driver calls")


def test_pycuda_is_told_of_if_it_calls_the_driver(
    machine: GpuMachine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(needs, "pycuda_or_why_not", lambda: (ModuleType("pycuda.driver"), ""))
    assert calls() == "by PyCUDA"
    assert problems() == {}


def test_pycuda_that_cannot_be_loaded_is_told_and_is_no_problem(
    machine: GpuMachine, monkeypatch: pytest.MonkeyPatch
) -> None:
    why = "PyCUDA is installed, but cannot be loaded: libcurand.so.10"
    monkeypatch.setattr(needs, "pycuda_or_why_not", lambda: (None, why))
    assert calls() == f"by ctypes; {why}"
    assert problems() == {}
    assert f"by ctypes; {why}" in succeeds("doctor").stdout


@contextmanager
def rtx_alone(**gpu: Any) -> Iterator[None]:
    """TensorRT-RTX in the place of TensorRT."""
    with gpu_machine("rtx-1.7.1", **gpu), pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "tensorrt", None)
        yield


@pytest.mark.usefixtures("machine")
def test_machine_that_has_tensorrt_rtx_alone() -> None:
    with rtx_alone():
        found = {need.name: need.found for need in needs.gpu_needs()}
    assert found["TensorRT"] == "TensorRT-RTX 1.7.1.116"
    assert str(found["GPU"]).startswith("NVIDIA GeForce RTX 4090 (sm89)")


@pytest.mark.usefixtures("machine")
def test_gpu_that_tensorrt_rtx_does_not_run_on() -> None:
    with rtx_alone(name="NVIDIA H100", capability=(9, 0)):
        assert "has no engines for the NVIDIA H100 (sm90)" in problems()["TensorRT"]


@pytest.mark.usefixtures("machine")
def test_tensorrt_rtx_is_told_where_no_gpu_is() -> None:
    with rtx_alone(devices=0):
        assert list(problems()) == ["GPU"]


def test_no_driver(machine: GpuMachine, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(libcuda, "LIBRARY", str(tmp_path / "libcuda.so.1"))
    assert list(problems()) == ["GPU"]
    assert "no NVIDIA driver for this Python" in problems()["GPU"]
    assert "driver calls" not in [need.name for need in needs.gpu_needs()]


def test_driver_that_does_not_answer(machine: GpuMachine) -> None:
    machine.driver.set_version(-803)
    assert re.search(r"does not answer: .*CUDA error 803: .*\. See nvidia-smi", problems()["GPU"])
    assert list(problems()) == ["GPU"]
