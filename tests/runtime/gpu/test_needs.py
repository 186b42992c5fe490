"""What the doctor says of a GPU."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import pytest

from edgeunet.errors import BackendError
from edgeunet.runtime.gpu import cuda_driver, needs
from support.commands import succeeds
from support.gpu_machine import GpuMachine, gpu_machine
from support.simulated_gpu import Streams


class SilentLibrary(Streams):
    """A libcuda that does not answer."""

    def cuDriverGetVersion(self, version: Any) -> int:
        return 803

    def cuGetErrorString(self, code: Any, text: Any) -> int:
        text._obj.value = b"system not ready"
        return 0


@pytest.fixture
def machine() -> Iterator[GpuMachine]:
    """A Jetson with all that it takes.

    Not by the test's own monkeypatch, which would put back in the end what it found here.
    """
    with gpu_machine() as made, pytest.MonkeyPatch.context() as patch:
        patch.setattr(needs, "find_nvcc", lambda: "/usr/local/cuda/bin/nvcc")
        patch.setattr(needs.importlib.util, "find_spec", lambda name: SimpleNamespace())
        yield made


def problems() -> dict[str, str]:
    return {need.name: need.problem for need in needs.gpu_needs() if need.problem is not None}


def test_machine_that_has_everything(machine: GpuMachine) -> None:
    found = {need.name: need.found for need in needs.gpu_needs()}
    assert found == {
        "GPU": "Orin (sm87), driver of CUDA 12.6, 1.1 GB free",
        "TensorRT": "10.3.0",
        "PyCUDA": "installed",
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
    monkeypatch.setattr(needs.importlib.util, "find_spec", lambda name: None)
    found = problems()
    assert sorted(found) == ["PyCUDA", "TensorRT", "nvcc"]
    assert "pip install 'edgeunet[trt]'" in found["TensorRT"] and "JetPack" in found["TensorRT"]
    assert "pip install 'edgeunet[trt]'" in found["PyCUDA"]
    assert "install the CUDA toolkit" in found["nvcc"]
    out = succeeds("doctor").stdout
    assert "on a GPU: TensorRT does not run. Missing:" in out
    assert all(problem in out for problem in found.values())


def test_without_nvcc_tensorrt_runs_bundles_that_bring_their_kernels(
    machine: GpuMachine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(needs, "find_nvcc", lambda: None)
    assert list(problems()) == ["nvcc"]
    assert "already holds engines/kernels-*.cubin" in problems()["nvcc"]
    out = succeeds("doctor").stdout
    assert "on a GPU: TensorRT runs" in out
    assert problems()["nvcc"] in out and "Orin (sm87)" in out


def test_pycuda_that_cannot_be_loaded_is_told_in_its_place_alone(
    machine: GpuMachine, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse() -> None:
        raise BackendError("PyCUDA cannot be loaded: libcurand.so.10")

    monkeypatch.setattr(needs, "import_pycuda", refuse)
    assert problems() == {"PyCUDA": "PyCUDA cannot be loaded: libcurand.so.10"}
    assert needs.gpu_needs()[0].found == "driver of CUDA 12.6"


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


def test_no_driver(machine: GpuMachine, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing() -> None:
        raise OSError("libcuda.so.1: cannot open shared object file")

    def refuse() -> None:
        raise BackendError("PyCUDA cannot be loaded: libcuda.so.1")

    monkeypatch.setattr(cuda_driver, "_library", missing)
    monkeypatch.setattr(needs, "import_pycuda", refuse)
    assert list(problems()) == ["GPU"], "PyCUDA is not to blame"
    assert "no NVIDIA driver: libcuda.so.1: cannot open" in problems()["GPU"]


def test_driver_that_does_not_answer(machine: GpuMachine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cuda_driver, "_library", SilentLibrary)
    assert re.search(r"does not answer: .*CUDA error 803: .*\. See nvidia-smi", problems()["GPU"])
    assert list(problems()) == ["GPU"]


def test_without_pycuda_the_driver_is_still_told(
    machine: GpuMachine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delitem(sys.modules, "pycuda.driver")
    monkeypatch.setitem(sys.modules, "pycuda", None)
    assert needs.gpu_needs()[0].found == "driver of CUDA 12.6"
