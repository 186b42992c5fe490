"""The CUDA seam on a simulated GPU: what it hands out, frees, and says when something is wrong."""

from __future__ import annotations

import json
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from edgeunet.errors import BackendError, MissingDependencyError
from edgeunet.runtime.gpu.cuda import CudaDevice
from support.commands import ROOT
from support.doubling import Doubling
from support.simulated_gpu import Driver
from support.tensorrt_machine import install_pycuda, restored_modules

API = json.loads((ROOT / "tests/support/simulated_gpu/pycuda_2026.1.json").read_text())


@pytest.fixture(autouse=True)
def _restored() -> Iterator[None]:
    with restored_modules():
        yield


@pytest.fixture
def driver() -> Driver:
    kernels = Doubling()
    kernels.driver = Driver(kernels)
    return install_pycuda(kernels.driver)


@pytest.fixture
def integrated() -> Driver:
    return install_pycuda(Driver(Doubling(), integrated=True))


def test_simulation_offers_nothing_that_pycuda_lacks(driver: Driver) -> None:
    known = {*API["functions"], *API["classes"], *API["errors"]}
    own = {"memory", "pinned", "streams", "lost", "retained"}
    offered = {name for name in {*vars(driver), *dir(driver)} if not name.startswith("_")} - own
    assert offered <= known
    for name in ("Device", "Context", "Stream", "Event"):
        members = {m for m in vars(getattr(driver, name)) if not m.startswith("_")}
        assert members <= set(API["classes"][name]), name
    assert "INTEGRATED" in API["classes"]["device_attribute"]


def test_device_says_what_it_is(driver: Driver) -> None:
    with CudaDevice() as device:
        assert (device.name, device.capability, device.driver) == ("Orin", "sm87", "12.6")
        assert not device.integrated
        before = device.free_memory()
        memory = device.allocate(1000)
        assert before - device.free_memory() == 1000 == memory.nbytes
        memory.close()
        memory.close()
        assert device.free_memory() == before


def test_bytes_go_up_through_a_kernel_and_down(driver: Driver) -> None:
    with CudaDevice() as device:
        stream, staging = device.stream(), device.stage(8)
        module = device.load_module(b"\x7fELF")
        staging.host[:] = range(8)
        staging.upload(8, stream)
        arguments = [np.uint64(staging.address), np.int32(4)]
        module.launch("double", (1, 1, 1), (4, 1, 1), arguments, stream)
        staging.download(8, stream)
        assert staging.host.tolist() == list(range(8)), "nothing has been waited for"
        stream.synchronize()
        assert staging.host.tolist() == [0, 2, 4, 6, 4, 5, 6, 7]


def test_integrated_gpu_copies_nothing(integrated: Driver) -> None:
    with CudaDevice() as device:
        stream, staging = device.stream(), device.stage(8)
        assert device.integrated
        assert staging.address == staging.host.ctypes.data
        staging.upload(8, stream)
        staging.download(8, stream)
        assert integrated.streams.queues[stream.handle].waiting == []
        assert integrated.memory.used == 0


def test_marks_wait_for_what_came_before_them_alone(driver: Driver) -> None:
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
        assert driver.memory.view(target.address, 4).tolist() != [7] * 4
        stream.synchronize()
        assert driver.memory.view(target.address, 4).tolist() == [7] * 4


def test_all_is_freed_with_the_device(driver: Driver) -> None:
    with CudaDevice() as device:
        device.allocate(10)
        device.stage(20)
        stream = device.stream()
        device.capture(stream, lambda: None)
        device.event()
    assert driver.memory.used == driver.pinned.used == driver.retained == 0
    assert device.resources == {} and driver.streams.graphs == {}
    assert driver.streams.current == [], "a context that is gone is still current"
    device.close()


def test_any_thread_may_call_and_none_keeps_the_context(driver: Driver) -> None:
    with CudaDevice() as device:
        thread = threading.Thread(target=lambda: device.allocate(10))
        thread.start()
        thread.join()
        assert driver.memory.used == 10
        with pytest.raises(driver.LogicError, match="no currently active context"):
            driver.mem_alloc(1)


def test_no_pycuda_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pycuda", None)
    with pytest.raises(MissingDependencyError, match=r"PyCUDA is not installed.*edgeunet\[trt\]"):
        CudaDevice()


@pytest.fixture
def pycuda_that(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[str], None]:
    """Installs a PyCUDA whose driver module is that line of code."""

    def install(line: str) -> None:
        (tmp_path / "pycuda").mkdir()
        (tmp_path / "pycuda/__init__.py").touch()
        (tmp_path / "pycuda/driver.py").write_text(line)
        monkeypatch.syspath_prepend(str(tmp_path))
        for name in ("pycuda", "pycuda.driver"):
            sys.modules.pop(name, None)

    return install


@pytest.mark.parametrize(
    ("error", "advice", "other"),
    [
        ("libcuda.so.1: cannot open shared object file", "Install NVIDIA's driver", "cuRAND"),
        ("_driver.so: undefined symbol: cuLibraryLoadData", "or update it", "cuRAND"),
        (
            "libcurand.so.10: cannot open shared object file",
            "echo 'CUDA_ENABLE_CURAND = False' >> ~/.aksetup-defaults.py",
            "NVIDIA's driver",
        ),
    ],
)
def test_pycuda_that_cannot_be_loaded_says_which_library_and_what_to_do(
    pycuda_that: Callable[[str], None], error: str, advice: str, other: str
) -> None:
    pycuda_that(f"raise ImportError({error!r})")
    with pytest.raises(BackendError) as raised:
        CudaDevice()
    message = str(raised.value)
    assert message.startswith(f"PyCUDA cannot be loaded: {error}. ")
    assert advice in message and other not in message


def test_pycuda_without_what_it_needs_names_that(pycuda_that: Callable[[str], None]) -> None:
    pycuda_that("import no_pytools.prefork")
    with pytest.raises(MissingDependencyError, match=r"^no_pytools is not installed"):
        CudaDevice()


@pytest.mark.parametrize(
    ("devices", "index", "words"),
    [(0, 0, "no GPU 0; found no GPUs"), (2, 2, "no GPU 2; found GPUs 0 to 1")],
)
def test_no_such_gpu(monkeypatch: pytest.MonkeyPatch, devices: int, index: int, words: str) -> None:
    install_pycuda(Driver(Doubling(), devices=devices))
    with pytest.raises(BackendError, match=words):
        CudaDevice(index)


def test_driver_that_finds_no_gpu(driver: Driver) -> None:
    driver.lost = True
    with pytest.raises(BackendError, match="CUDA failed while looking for a GPU: cuInit failed"):
        CudaDevice()


def test_out_of_memory_says_what_to_do(driver: Driver) -> None:
    with CudaDevice() as device, pytest.raises(BackendError, match=r"out of memory while.*2000 MB"):
        device.allocate(2 * 10**9)


def test_gpu_that_is_lost_is_told_and_can_be_closed(driver: Driver) -> None:
    with CudaDevice() as device:
        stream, _ = device.stream(), device.allocate(10)
        driver.lost = True
        with pytest.raises(BackendError, match=r"the GPU: .*launch failure.*nvidia-smi"):
            stream.synchronize()


def test_all_that_a_lost_gpu_held_is_let_go(driver: Driver) -> None:
    with CudaDevice() as device:
        held = [
            device.stage(4),
            device.stream(),
            device.allocate(10),
            device.load_module(b"\x7fELF"),
        ]
        held.append(device.capture(held[1], lambda: None))
        driver.lost = True
    for each in held:
        with pytest.raises(BackendError, match="was freed"):
            each.native  # noqa: B018
    assert driver.retained == driver.memory.used == driver.pinned.used == 0
    assert driver.streams.graphs == {}


def test_broken_kernels_are_refused(driver: Driver) -> None:
    with CudaDevice() as device, pytest.raises(BackendError, match=r"loading kernels.*invalid"):
        device.load_module(b"not a cubin")
