"""The fake libcuda finds out what a GPU would not take, or would compute nonsense from."""

from __future__ import annotations

import gc
from collections.abc import Callable

import numpy as np
import pytest

from edgeunet.runtime.gpu import driver, libcuda
from edgeunet.runtime.gpu.cuda import CudaDevice
from support.fake_cuda import CUBIN, FakeCuda
from support.host_kernels import load_host_kernels
from support.tensorrt_machine import install_gpu, restored_modules


def copy_before_it_is_awaited(gpu: FakeCuda, device: CudaDevice) -> None:
    """Freed while queued work still needs it."""
    stream, staging = device.stream(), device.stage(8)
    staging.upload(8, stream)
    staging.close()
    stream.synchronize()


def copy_from_pageable_memory(gpu: FakeCuda, device: CudaDevice) -> None:
    memory = device.allocate(8)
    with pytest.raises(Exception, match="invalid argument"):
        device.to_device(memory.address, np.zeros(8, np.uint8), device.stream())


def copy_beyond_the_end(gpu: FakeCuda, device: CudaDevice) -> None:
    memory = device.allocate(8)
    with pytest.raises(Exception, match="invalid argument"):
        device.copy(memory.address, device.allocate(80).address, 9, device.stream())


def copy_onto_itself(gpu: FakeCuda, device: CudaDevice) -> None:
    at = device.allocate(80).address
    with pytest.raises(Exception, match="invalid argument"):
        device.copy(at, at + 4, 8, device.stream())


def write_behind(gpu: FakeCuda, device: CudaDevice) -> None:
    memory = device.allocate(8)
    gpu.at(memory.address + 8, 1)[:] = 0
    memory.close()


def write_after_it_was_freed(gpu: FakeCuda, device: CudaDevice) -> None:
    memory = device.allocate(8)
    content = gpu.at(memory.address, 8)
    memory.close()
    content[:] = 1


def allocate_in_a_capture(gpu: FakeCuda, device: CudaDevice) -> None:
    with pytest.raises(Exception, match="not permitted when stream is capturing"):
        device.capture(device.stream(), lambda: device.allocate(8))


def wait_in_a_capture(gpu: FakeCuda, device: CudaDevice) -> None:
    stream = device.stream()
    with pytest.raises(Exception, match="not permitted when stream is capturing"):
        device.capture(stream, stream.synchronize)


def kernel_at_an_address_of_the_host(gpu: FakeCuda, device: CudaDevice) -> None:
    host = np.zeros(8, np.uint8)
    stream, module = device.stream(), device.load_module(CUBIN)
    arguments = [np.uint64(host.ctypes.data), np.int32(8)]
    module.launch("double", (1, 1, 1), (1, 1, 1), arguments, stream)


def kernel_without_blocks(gpu: FakeCuda, device: CudaDevice) -> None:
    arguments = [np.uint64(device.allocate(8).address), np.int32(8)]
    with pytest.raises(Exception, match="invalid argument"):
        device.load_module(CUBIN).launch("double", (0, 1, 1), (1, 1, 1), arguments, device.stream())


def time_of_what_was_not_reached(gpu: FakeCuda, device: CudaDevice) -> None:
    stream, first, second = device.stream(), device.event(), device.event()
    first.record(stream)
    second.record(stream)
    with pytest.raises(Exception, match="device not ready"):
        second.seconds_since(first)


def call_without_a_context(gpu: FakeCuda, device: CudaDevice) -> None:
    with pytest.raises(libcuda.Error, match="invalid device context"):
        driver.mem_get_info()


def stream_that_waits_for_the_default_one(gpu: FakeCuda, device: CudaDevice) -> None:
    with device.current("testing"):
        driver.Stream(0)


MISUSES = [
    (copy_before_it_is_awaited, "cuMemcpyHtoDAsync_v2: the memory was freed before the copy ran"),
    (copy_from_pageable_memory, "cuMemcpyHtoDAsync_v2: not page-locked, or not in one block"),
    (copy_beyond_the_end, "cuMemcpyDtoDAsync_v2: not page-locked, or not in one block"),
    (copy_onto_itself, "cuMemcpyDtoDAsync_v2: source and target overlap"),
    (write_behind, "memory was written behind its 8 bytes"),
    (write_after_it_was_freed, "memory was written after it had been freed"),
    (allocate_in_a_capture, "cuMemAlloc_v2: during a capture"),
    (wait_in_a_capture, "cuStreamSynchronize: during its capture"),
    (kernel_at_an_address_of_the_host, "double: argument 0 is no address of the device"),
    (kernel_without_blocks, "double: grid 0 1 1 of 1 1 1"),
    (time_of_what_was_not_reached, "cuEventElapsedTime: not reached"),
    (call_without_a_context, "cuMemGetInfo_v2: no context is current"),
    (stream_that_waits_for_the_default_one, "cuStreamCreate: it waits for the default stream"),
]


@pytest.mark.parametrize(
    ("misuse", "words"), MISUSES, ids=lambda each: getattr(each, "__name__", "")
)
def test_misuse_is_told_at_the_end(
    misuse: Callable[[FakeCuda, CudaDevice], None], words: str
) -> None:
    gpu = FakeCuda()
    with CudaDevice() as device:
        misuse(gpu, device)
    with pytest.raises(AssertionError, match="a GPU would not take this: ") as told:
        gpu.close()
    assert words in str(told.value)


def test_what_is_left_is_told_at_the_end() -> None:
    gpu = FakeCuda()
    device = CudaDevice()
    device.allocate(8)
    with pytest.raises(AssertionError, match=r"left on the GPU: .*'memory': 8.*'retained': 1"):
        gpu.close()
    del device
    gc.collect()  # what the device held cannot be freed on a machine that is gone


def test_what_work_of_the_host_raises_is_raised_at_the_end() -> None:
    gpu = FakeCuda()
    with CudaDevice() as device:
        stream = device.stream()
        with device.current("testing"):
            gpu.enqueue(stream.handle, lambda: 1 // 0)  # type: ignore[arg-type, return-value]
        stream.synchronize()
    with pytest.raises(ZeroDivisionError):
        gpu.close()


def test_error_within_is_not_hidden_by_what_is_left() -> None:
    def fail() -> None:
        with restored_modules():
            install_gpu()
            raise KeyError(CudaDevice())

    with pytest.raises(KeyError):
        fail()


def test_one_machine_within_another() -> None:
    with FakeCuda(name="outer"), CudaDevice() as outer:
        memory = outer.allocate(8)
        with FakeCuda(name="inner") as inside, CudaDevice() as inner:
            assert (inner.name, inside.memory) == ("inner", 0)
        assert outer.free_memory() == (1 << 30) - 8
        memory.close()


def test_each_kernel_is_found_with_its_parameters() -> None:
    with FakeCuda() as gpu, CudaDevice() as device:
        gpu.use(load_host_kernels().library)
        module = device.load_module(CUBIN)
        with device.current("testing"):
            for name in ("preprocess_float16", "postprocess_float32", "overlay"):
                assert module.native.get_function(name) is not None
            with pytest.raises(libcuda.Error, match="named symbol not found"):
                module.native.get_function("unknown")
