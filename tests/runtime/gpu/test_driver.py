"""`pycuda.driver` by ctypes: the same names, what it frees and when, and what it refuses."""

from __future__ import annotations

import ast
import gc
import inspect
import json
import subprocess
import sys
import threading
from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeunet.runtime.gpu import cuda, driver, libcuda
from support.commands import ROOT
from support.fake_cuda import CUBIN, FakeCuda

# Recorded from PyCUDA 2026.1.
API = json.loads((ROOT / "tests/support/pycuda_2026.1.json").read_text())


@pytest.fixture
def gpu() -> Iterator[FakeCuda]:
    with FakeCuda() as made:
        yield made


@pytest.fixture
def context(gpu: FakeCuda) -> Iterator[driver.Context]:
    """The primary context, current in this thread."""
    driver.init()
    made = driver.Device(0).retain_primary_context()
    made.push()
    yield made
    made.detach()


# Names


def test_all_that_the_product_uses_is_in_pycuda_by_the_same_name() -> None:
    """Otherwise it would run by ctypes alone."""
    known = {*API["functions"], *API["classes"], *API["errors"]}
    used: set[str] = set()
    for node in ast.walk(ast.parse(inspect.getsource(cuda))):
        if isinstance(node, ast.Attribute):
            owner = ast.unparse(node.value)
            if owner in ("driver", "self._driver"):
                used.add(node.attr)
    assert {"Device", "Stream", "mem_alloc", "pagelocked_empty", "Error", "MemoryError"} <= used
    assert used <= known
    assert all(hasattr(driver, name) for name in used)


@pytest.mark.parametrize("name", ["Device", "Context", "Stream", "Event", "Module"])
def test_classes_have_no_method_that_pycuda_lacks(name: str) -> None:
    members = {m for m in vars(getattr(driver, name)) if not m.startswith("_")}
    assert members <= set(API["classes"][name]), name


@pytest.mark.parametrize("name", ["device_attribute", "host_alloc_flags"])
def test_constants_have_names_of_pycuda(name: str) -> None:
    members = {m for m in vars(getattr(driver, name)) if not m.startswith("_")}
    assert members <= set(API["classes"][name])


# What is freed


def everything() -> list[driver._Owned]:
    return [
        driver.Stream(1),
        driver.Event(),
        driver.mem_alloc(10),
        driver.module_from_buffer(CUBIN),
        driver.pagelocked_empty(10, np.uint8).base,
    ]


def test_all_is_freed_with_its_last_reference(gpu: FakeCuda, context: driver.Context) -> None:
    made = everything()
    assert {"memory", "pinned", "streams", "events", "modules"} < gpu.left.keys()
    del made
    gc.collect()
    assert gpu.left == {"retained": 1, "pushed": 1}


def test_what_is_freed_without_a_current_context_is_freed_in_its_own(gpu: FakeCuda) -> None:
    driver.init()
    context = driver.Device(0).retain_primary_context()
    context.push()
    made = everything()
    context.pop()
    thread = threading.Thread(target=made.clear)
    thread.start()
    thread.join()
    assert gpu.left == {"retained": 1}
    assert gpu.misuse == []
    context.detach()


def test_what_outlives_its_context_is_let_be() -> None:
    """The driver has freed it with the context. Its handle may be another's by then."""
    gpu = FakeCuda()
    driver.init()
    context = driver.Device(0).retain_primary_context()
    context.push()
    made = everything()
    context.detach()
    for each in made:
        each.free()
    assert (gpu.left, gpu.misuse) == ({"abandoned": len(made)}, [])
    gpu.end()


def test_views_keep_page_locked_memory(gpu: FakeCuda, context: driver.Context) -> None:
    part = driver.pagelocked_empty(100, np.uint8)[10:20].view(np.uint16)
    gc.collect()
    assert gpu.pinned == 100
    part[:] = 7
    del part
    assert gpu.pinned == 0


def test_freed_twice_is_freed_once_and_then_refused(gpu: FakeCuda, context: driver.Context) -> None:
    stream, memory = driver.Stream(1), driver.mem_alloc(8)
    for each in (stream, memory):
        each.free()
        each.free()
    with pytest.raises(driver.Error, match="this Stream was freed"):
        stream.synchronize()
    with pytest.raises(driver.Error, match="this DeviceAllocation was freed"):
        int(memory)


@pytest.mark.parametrize(
    "make", [lambda: driver.Stream(1), driver.Event, lambda: driver.mem_alloc(1)]
)
def test_without_a_context_nothing_is_made(gpu: FakeCuda, make: type) -> None:
    driver.init()
    with pytest.raises(driver.Error, match="no context is current in this thread"):
        make()


# Copies and kernels


@given(values=st.lists(st.integers(0, 255), min_size=1, max_size=50), count=st.integers(0, 60))
def test_bytes_go_up_through_a_kernel_and_down(values: list[int], count: int) -> None:
    count = min(count, len(values))
    with FakeCuda():
        driver.init()
        context = driver.Device(0).retain_primary_context()
        context.push()
        stream, memory = driver.Stream(1), driver.mem_alloc(len(values))
        host = driver.pagelocked_empty(len(values), np.uint8)
        host[:] = values
        driver.memcpy_htod_async(int(memory), host, stream)
        kernel = driver.module_from_buffer(CUBIN).get_function("double")
        arguments = (np.uint64(int(memory)), np.int32(count))
        kernel(*arguments, grid=(1, 1, 1), block=(1, 1, 1), stream=stream)
        driver.memcpy_dtoh_async(host, int(memory), stream)
        assert host.tolist() == values, "nothing has been waited for"
        stream.synchronize()
        assert host.tolist() == [2 * v % 256 for v in values[:count]] + values[count:]
        del stream, memory, host, kernel
        context.detach()


def test_copy_of_an_array_with_gaps_is_refused(gpu: FakeCuda, context: driver.Context) -> None:
    host = driver.pagelocked_empty(10, np.uint8)
    stream, memory = driver.Stream(1), driver.mem_alloc(10)
    with pytest.raises(driver.Error, match="expects an array without gaps"):
        driver.memcpy_htod_async(int(memory), host[::2], stream)


def test_size_of_more_than_32_bits_reaches_the_driver(
    gpu: FakeCuda, context: driver.Context
) -> None:
    """2**32 bytes more than fit: cut to 32 bits, it would fit."""
    with pytest.raises(driver.MemoryError, match="cuMemAlloc_v2 failed with CUDA error 2: out of"):
        driver.mem_alloc(2**32 + 8)


def test_kernel_of_another_name_is_an_error(gpu: FakeCuda, context: driver.Context) -> None:
    module = driver.module_from_buffer(CUBIN)
    with pytest.raises(driver.Error, match=r"cuModuleGetFunction .* 500: named symbol not found"):
        module.get_function("triple")


# Threads


ENDING = """
import sys, threading
sys.path.insert(0, "tests")
from support.fake_cuda import FakeCuda
from edgeunet.runtime.gpu import driver

gpu = FakeCuda()
driver.init()

def work():
    context = driver.Device(0).retain_primary_context()
    context.push()
    driver.mem_alloc(10)
    held.append(driver.Stream(1))

held = []
thread = threading.Thread(target=work)
thread.start()
thread.join()
print("the thread has ended with", gpu.count("pushed"), "context current")
held.clear()
print("and left", gpu.count("streams"), "streams,", gpu.misuse)
"""


def test_thread_that_ends_with_a_context_current_does_not_end_the_process() -> None:
    done = subprocess.run(
        [sys.executable, "-c", ENDING], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == [
        "the thread has ended with 1 context current",
        "and left 0 streams, []",
    ]


def test_library_knows_each_call_that_is_made() -> None:
    """A call without a signature would pass 64 bits as 32."""
    called = {
        node.args[0].value
        for module in (driver, libcuda)
        for node in ast.walk(ast.parse(inspect.getsource(module)))
        if isinstance(node, ast.Call)
        and ast.unparse(node.func) in ("call", "self._create")
        and isinstance(node.args[0], ast.Constant)
    }
    destroyed = {kind._destroy for kind in driver._Owned.__subclasses__()}
    assert called and called | destroyed <= libcuda._SIGNATURES.keys()
