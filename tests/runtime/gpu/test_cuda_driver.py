"""Calls of the driver itself."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from edgeunet.errors import BackendError
from edgeunet.runtime.gpu import cuda_driver
from edgeunet.runtime.gpu.cuda import CudaDevice
from support.doubling import Doubling
from support.simulated_gpu import Driver
from support.tensorrt_machine import install_pycuda, restored_modules


@pytest.fixture(autouse=True)
def _restored() -> Iterator[None]:
    with restored_modules():
        yield


@pytest.fixture
def driver() -> Driver:
    kernels = Doubling()
    kernels.driver = Driver(kernels)
    return install_pycuda(kernels.driver)


@pytest.mark.parametrize("node", ["nvidia0", "nvidia7", "nvhost-gpu", "nvgpu", "dxg"])
def test_gpu_is_where_its_driver_and_a_device_are(
    driver: Driver, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, node: str
) -> None:
    monkeypatch.setattr(cuda_driver, "_DEVICES", tmp_path)
    (tmp_path / "nvidiactl").touch()  # there without a GPU too
    assert not cuda_driver.has_gpu()
    (tmp_path / node).touch()
    assert cuda_driver.has_gpu()

    def missing() -> None:
        raise OSError("libcuda.so.1: cannot open shared object file")

    monkeypatch.setattr(cuda_driver, "_library", missing)
    assert not cuda_driver.has_gpu()


def test_graph_repeats_what_was_captured(driver: Driver) -> None:
    with CudaDevice() as device:
        stream, staging = device.stream(), device.stage(4)
        graph = device.capture(stream, lambda: staging.upload(4, stream))
        stream.synchronize()
        assert driver.memory.view(staging.address, 4).tolist() == [0xCD] * 4, "captured, not run"
        for value in (3, 5):
            staging.host[:] = value
            graph.launch(stream)
            stream.synchronize()
            assert driver.memory.view(staging.address, 4).tolist() == [value] * 4
        graph.close()
        assert driver.streams.graphs == driver.streams.executables == {}


def test_stream_can_be_used_after_a_capture_that_failed(driver: Driver) -> None:
    with CudaDevice() as device:
        stream, staging = device.stream(), device.stage(4)
        driver.streams.capturable = False
        with pytest.raises(BackendError, match="cuStreamEndCapture failed with CUDA error 901: op"):
            device.capture(stream, lambda: staging.upload(4, stream))
        staging.upload(4, stream)
        stream.synchronize()


def test_graph_that_a_lost_gpu_does_not_run_says_what_to_do(driver: Driver) -> None:
    with CudaDevice() as device:
        stream = device.stream()
        graph = device.capture(stream, lambda: None)
        driver.lost = True
        with pytest.raises(
            BackendError, match=r"cuGraphLaunch failed .*launch failure.*nvidia-smi"
        ):
            graph.launch(stream)
