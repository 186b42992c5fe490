"""The CUDA seam on a simulated GPU: what it hands out, frees, and says when something is wrong."""

from __future__ import annotations

import re
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from edgeunet.errors import BackendError
from edgeunet.runtime.gpu import cuda
from edgeunet.runtime.gpu import driver as by_ctypes
from edgeunet.runtime.gpu.cuda import CudaDevice
from support.fake_cuda import CUBIN, FakeCuda


@pytest.fixture
def driver() -> Iterator[FakeCuda]:
    with FakeCuda() as made:
        yield made


@pytest.fixture
def integrated() -> Iterator[FakeCuda]:
    with FakeCuda(integrated=True) as made:
        yield made


def test_device_says_what_it_is(driver: FakeCuda) -> None:
    with CudaDevice() as device:
        assert (device.name, device.capability, device.driver) == ("Orin", "sm87", "12.6")
        assert not device.integrated
        before = device.free_memory()
        memory = device.allocate(1000)
        assert before - device.free_memory() == 1000 == memory.nbytes
        memory.close()
        memory.close()
        assert device.free_memory() == before


def test_bytes_go_up_through_a_kernel_and_down(driver: FakeCuda) -> None:
    with CudaDevice() as device:
        stream, staging = device.stream(), device.stage(8)
        module = device.load_module(CUBIN)
        staging.host[:] = range(8)
        staging.upload(8, stream)
        arguments = [np.uint64(staging.address), np.int32(4)]
        module.launch("double", (1, 1, 1), (4, 1, 1), arguments, stream)
        staging.download(8, stream)
        assert staging.host.tolist() == list(range(8)), "nothing has been waited for"
        stream.synchronize()
        assert staging.host.tolist() == [0, 2, 4, 6, 4, 5, 6, 7]


def test_integrated_gpu_shares_what_is_small(integrated: FakeCuda) -> None:
    with CudaDevice() as device:
        stream, staging = device.stream(), device.stage(8, small=True)
        assert device.integrated
        assert staging.address == staging.host.ctypes.data
        staging.upload(8, stream)
        staging.download(8, stream)
        assert integrated.queued == integrated.memory == 0


def test_integrated_gpu_gets_a_copy_of_frames(integrated: FakeCuda) -> None:
    """It does not cache memory that it shares."""
    with CudaDevice() as device:
        stream, staging = device.stream(), device.stage(8)
        assert integrated.memory == 8
        assert staging.address != staging.host.ctypes.data
        staging.host[:] = 5
        staging.upload(8, stream)
        stream.synchronize()
        assert integrated.at(staging.address, 8).tolist() == [5] * 8


def test_other_gpus_share_nothing(driver: FakeCuda) -> None:
    with CudaDevice() as device:
        staging = device.stage(8, small=True)
        assert driver.memory == 8
        assert staging.address != staging.host.ctypes.data


def test_marks_wait_for_what_came_before_them_alone(driver: FakeCuda) -> None:
    with CudaDevice() as device:
        stream, source, target = device.stream(), device.stage(4), device.allocate(4)
        first, second = device.event(), device.event()
        first.record(stream)
        source.host[:] = 7
        source.upload(4, stream)
        second.record(stream)
        device.copy(target.address, source.address, 4, stream)
        second.synchronize()
        assert second.seconds_since(first) > 0
        assert driver.at(target.address, 4).tolist() != [7] * 4
        stream.synchronize()
        assert driver.at(target.address, 4).tolist() == [7] * 4


def test_all_is_freed_with_the_device(driver: FakeCuda) -> None:
    with CudaDevice() as device:
        device.allocate(10)
        device.stage(20)
        stream = device.stream()
        device.capture(stream, lambda: None)
        device.event()
    assert driver.left == {}
    assert device.resources == {}
    device.close()


def test_any_thread_may_call_and_none_keeps_the_context(driver: FakeCuda) -> None:
    with CudaDevice() as device:
        thread = threading.Thread(target=lambda: device.allocate(10))
        thread.start()
        thread.join()
        assert driver.memory == 10
        with pytest.raises(by_ctypes.Error, match="no context is current"):
            by_ctypes.mem_alloc(1)
        assert driver.count("pushed") == 0


# Which driver API


@pytest.fixture
def pycuda_that(
    driver: FakeCuda, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Callable[[str], None]:
    """Installs a PyCUDA whose driver module is that line of code."""

    def install(line: str) -> None:
        (tmp_path / "pycuda").mkdir()
        (tmp_path / "pycuda/__init__.py").touch()
        (tmp_path / "pycuda/driver.py").write_text(line)
        monkeypatch.syspath_prepend(str(tmp_path))
        for name in ("pycuda", "pycuda.driver"):
            monkeypatch.delitem(sys.modules, name, raising=False)

    return install


def test_without_pycuda_ctypes_calls_the_driver(driver: FakeCuda) -> None:
    assert cuda.pycuda_or_why_not() == (None, "")
    assert cuda.load_driver() is by_ctypes


def test_pycuda_that_is_installed_calls_the_driver(pycuda_that: Callable[[str], None]) -> None:
    pycuda_that(f"from {by_ctypes.__name__} import *")
    assert cuda.load_driver().__name__ == "pycuda.driver"
    with CudaDevice() as device:
        device.allocate(10).close()


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("raise ImportError('libcurand.so.10: cannot open shared')", r"libcurand\.so\.10: cannot"),
        ("raise ImportError('undefined symbol: cuCtxCreate_v4')", "undefined symbol: cuCtx"),
        ("import no_pytools.prefork", "No module named 'no_pytools'"),
        ("raise RuntimeError('compiled with numpy 1')", "compiled with numpy 1"),
    ],
)
def test_pycuda_that_does_not_load_gives_way_to_ctypes(
    pycuda_that: Callable[[str], None], line: str, why: str
) -> None:
    pycuda_that(line)
    module, reason = cuda.pycuda_or_why_not()
    assert module is None
    assert re.match(rf"PyCUDA is installed, but cannot be loaded: .*{why}", reason)
    with CudaDevice() as device:
        assert device.name == "Orin"


# Faults


def test_no_such_gpu() -> None:
    with (
        FakeCuda(devices=2),
        pytest.raises(BackendError, match="there is no GPU 2; found GPUs 0 to 1"),
    ):
        CudaDevice(2)


def test_driver_that_finds_no_gpu() -> None:
    with (
        FakeCuda(devices=0),
        pytest.raises(BackendError, match=r"no CUDA-capable device.*check CUDA_VISIBLE_DEVICES"),
    ):
        CudaDevice()


@pytest.mark.parametrize(
    ("code", "told"),
    [
        (34, "error 34: CUDA driver is a stub library. .*stubs folder out of LD_LIBRARY_PATH"),
        (802, "error 802: system not yet initialized. Install NVIDIA's driver"),
        (803, r"error 803: .*combination\. Install NVIDIA's driver, or update it and restart"),
        (999, "error 999: no reason given. Install NVIDIA's driver, or update it"),
    ],
)
def test_driver_that_does_not_start_says_what_to_do(driver: FakeCuda, code: int, told: str) -> None:
    driver.refuse_to_start(code)
    with pytest.raises(BackendError, match=rf"CUDA does not start: cuInit failed with CUDA {told}"):
        CudaDevice()


def test_out_of_memory_says_what_to_do(driver: FakeCuda) -> None:
    with CudaDevice() as device, pytest.raises(BackendError, match=r"out of memory while.*2000 MB"):
        device.allocate(2 * 10**9)


def test_gpu_that_is_lost_is_told_and_can_be_closed(driver: FakeCuda) -> None:
    with CudaDevice() as device:
        stream, _ = device.stream(), device.allocate(10)
        driver.lost = True
        with pytest.raises(BackendError, match=r"the GPU: .*launch failure.*nvidia-smi"):
            stream.synchronize()


def test_all_that_a_lost_gpu_held_is_let_go(driver: FakeCuda) -> None:
    with CudaDevice() as device:
        held = [
            device.stage(4),
            device.stream(),
            device.allocate(10),
            device.load_module(CUBIN),
        ]
        held.append(device.event())
        held.append(device.capture(held[1], lambda: None))
        driver.lost = True
    for each in held:
        with pytest.raises(BackendError, match="was freed"):
            each.native  # noqa: B018
    assert driver.left == {}


def test_error_that_is_kept_keeps_nothing_on_the_gpu(driver: FakeCuda) -> None:
    """Its traceback holds what the call was made with."""
    with CudaDevice() as device:
        stream, event = device.stream(), device.event()
        driver.lost = True
        with pytest.raises(BackendError) as kept:
            event.record(stream)
        for each in (stream, event):
            with pytest.raises(BackendError, match=r"freeing GPU resources: .*launch failure"):
                each.close()
        assert driver.count("streams") == driver.count("events") == 0
    assert kept.value.__traceback__ is not None


def test_broken_kernels_are_refused(driver: FakeCuda) -> None:
    with CudaDevice() as device, pytest.raises(BackendError, match=r"loading kernels.*invalid"):
        device.load_module(b"not a cubin")
