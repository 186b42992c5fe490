"""The driver's library: found, refused with a remedy, and its CUDA graphs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from edgeunet.bundle.bundle import open_bundle
from edgeunet.errors import BackendError
from edgeunet.runtime.backends import create_backend
from edgeunet.runtime.gpu import libcuda
from edgeunet.runtime.gpu.cuda import CudaDevice
from support.compiling import compiled
from support.fake_cuda import FakeCuda
from support.fake_cuda import path as fake_cuda_path
from support.tensorrt_machine import install_stand_in, restored_modules


@pytest.fixture
def driver() -> Iterator[FakeCuda]:
    with FakeCuda() as made:
        yield made


# The library


def missing(folder: Path) -> Path:
    return folder / "libcuda.so.1"


def of_another_class(folder: Path) -> Path:
    """As an ELF file of 32 bits begins."""
    path = folder / "libcuda.so.1"
    path.write_bytes(b"\x7fELF\x01\x01\x01" + bytes(57))
    return path


def of_another_architecture(folder: Path) -> Path:
    path = folder / "libcuda.so.1"
    content = bytearray(fake_cuda_path().read_bytes())
    content[18:20] = (0xF3).to_bytes(2, "little")  # e_machine: RISC-V
    path.write_bytes(content)
    return path


def no_library(folder: Path) -> Path:
    path = folder / "libcuda.so.1"
    path.write_bytes(b"version https://git-lfs.github.com/spec/v1\n" * 9)
    return path


def too_old(folder: Path) -> Path:
    """A libcuda of CUDA 11.2."""
    calls = [
        "#include <cstddef>",
        'extern "C" int cuDriverGetVersion(int* version) { *version = 11020; return 0; }',
        *(
            f'extern "C" int {name}() {{ return 0; }}'
            for name in libcuda._SIGNATURES
            if name not in ("cuDriverGetVersion", "cuGraphInstantiateWithFlags")
        ),
    ]
    (folder / "old.cpp").write_text("\n".join(calls))
    return compiled(folder / "old.cpp")


def another_library(folder: Path) -> Path:
    (folder / "other.cpp").write_text('extern "C" int answer() { return 42; }')
    return compiled(folder / "other.cpp")


LIBRARIES = [
    (missing, r"no NVIDIA driver for this Python \(\S+\): .*No such file.*Install NVIDIA's driver"),
    (of_another_class, r"no NVIDIA driver for this Python \(\S+\): .*wrong ELF class.*Install"),
    (of_another_architecture, r"no NVIDIA driver for this Python \(\S+\): .*Install NVIDIA's"),
    (no_library, r"no NVIDIA driver for this Python \(\S+\): .*(invalid ELF|too short).*Install"),
    (
        too_old,
        r"too old: expected CUDA 11\.4 or newer, got 11\.2, which lacks "
        r"cuGraphInstantiateWithFlags\. Install NVIDIA's driver, or update it",
    ),
    (another_library, r"too old: expected CUDA 11\.4 or newer, got unknown, which lacks cuDriver"),
]


@pytest.mark.parametrize(("make", "told"), LIBRARIES)
def test_library_that_does_not_fit_is_told_with_the_remedy(
    make: Callable[[Path], Path], told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(libcuda, "LIBRARY", str(make(tmp_path)))
    for use in (CudaDevice, libcuda.library, libcuda.driver_version):
        with pytest.raises(BackendError, match=told):
            use()


@pytest.mark.parametrize(("make", "told"), LIBRARIES)
def test_auto_goes_on_with_onnx_runtime_and_says_why(
    fp32_bundle: Path,
    make: Callable[[Path], Path],
    told: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(libcuda, "LIBRARY", str(make(tmp_path)))
    with restored_modules():
        install_stand_in("10.3.0")
        with create_backend("auto", open_bundle(fp32_bundle)) as backend:
            assert backend.name == "onnxruntime"
    (record,) = caplog.records
    assert record.getMessage().endswith("Going on with ONNX Runtime on the CPU.")
    caplog.clear()


def test_library_is_looked_for_by_the_name_that_a_driver_installs() -> None:
    assert libcuda.LIBRARY == "libcuda.so.1"


def test_driver_that_does_not_answer(driver: FakeCuda) -> None:
    driver.set_version(-999)
    with pytest.raises(libcuda.Error, match="cuDriverGetVersion failed with CUDA error 999: no re"):
        libcuda.driver_version()


# Whether there is a GPU


@pytest.mark.parametrize("node", ["nvidia0", "nvidia7", "nvhost-gpu", "nvgpu"])
def test_gpu_is_where_its_device_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, node: str
) -> None:
    """Even where the driver's library is missing: whoever uses the GPU is told of that."""
    monkeypatch.setattr(libcuda, "LIBRARY", str(missing(tmp_path)))
    monkeypatch.setattr(libcuda, "_DEVICES", tmp_path)
    (tmp_path / "nvidiactl").touch()  # there without a GPU too
    assert not libcuda.has_gpu()
    (tmp_path / node).touch()
    assert libcuda.has_gpu()


def test_device_of_any_gpu_is_nvidias_where_its_driver_is(
    driver: FakeCuda, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(libcuda, "_DEVICES", tmp_path)
    assert not libcuda.has_gpu()
    (tmp_path / "dxg").touch()
    assert libcuda.has_gpu()
    monkeypatch.setattr(libcuda, "LIBRARY", str(missing(tmp_path)))
    assert not libcuda.has_gpu()


# Graphs


def test_graph_repeats_what_was_captured(driver: FakeCuda) -> None:
    with CudaDevice() as device:
        stream, staging = device.stream(), device.stage(4)
        graph = device.capture(stream, lambda: staging.upload(4, stream))
        stream.synchronize()
        assert driver.at(staging.address, 4).tolist() == [0xCD] * 4, "captured, not run"
        for value in (3, 5):
            staging.host[:] = value
            graph.launch(stream)
            stream.synchronize()
            assert driver.at(staging.address, 4).tolist() == [value] * 4
        graph.close()
        graph.close()
        assert driver.count("graphs") == driver.count("executables") == 0


def test_stream_can_be_used_after_a_capture_that_failed(driver: FakeCuda) -> None:
    with CudaDevice() as device:
        stream, staging = device.stream(), device.stage(4)
        driver.refuse_captures()
        with pytest.raises(BackendError, match="cuStreamEndCapture failed with CUDA error 901: op"):
            device.capture(stream, lambda: staging.upload(4, stream))
        staging.upload(4, stream)
        stream.synchronize()
        assert driver.graphs == 0


def test_what_raises_during_a_capture_leaves_the_stream_usable(driver: FakeCuda) -> None:
    with CudaDevice() as device:
        stream, staging = device.stream(), device.stage(4)
        with pytest.raises(ZeroDivisionError):
            device.capture(stream, lambda: 1 // 0)
        staging.upload(4, stream)
        stream.synchronize()


def test_graph_that_a_lost_gpu_does_not_run_says_what_to_do(driver: FakeCuda) -> None:
    with CudaDevice() as device:
        stream = device.stream()
        graph = device.capture(stream, lambda: None)
        driver.lost = True
        with pytest.raises(
            BackendError, match=r"cuGraphLaunch failed .*launch failure.*nvidia-smi"
        ):
            graph.launch(stream)
