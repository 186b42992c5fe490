"""Install stand-ins for TensorRT and for a GPU in this process."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

from edgeunet.runtime.gpu import cuda_driver
from support import fake_tensorrt
from support.simulated_gpu import Driver

_PLACES = ("tensorrt", "tensorrt_rtx_bindings", "pycuda", "pycuda.driver")


class NoKernels:
    """Building an engine launches no kernels."""

    def launch(self, *_: object) -> None:
        raise AssertionError("a kernel was launched")


def install_pycuda(driver: Driver) -> Driver:
    """Replace PyCUDA and libcuda by a simulated GPU."""
    cuda_driver._library = lambda: driver.streams
    pycuda = sys.modules["pycuda"] = ModuleType("pycuda")
    pycuda.__spec__ = ModuleSpec("pycuda", None)  # find_spec reads it
    sys.modules["pycuda.driver"] = driver  # type: ignore[assignment]
    return driver


def install_tensorrt(version: str, **gpu: Any) -> ModuleType:
    """Replace `tensorrt` and PyCUDA by stand-ins. Returns the module of `tensorrt`."""
    install_pycuda(Driver(NoKernels(), **gpu))
    return install_stand_in(version)


def install_stand_in(version: str) -> ModuleType:
    """Replace `tensorrt` or TensorRT-RTX's binding by a stand-in. Returns its module."""
    trt = fake_tensorrt.make(version)
    sys.modules[trt.__name__] = trt
    return trt


@contextmanager
def restored_modules() -> Iterator[None]:
    """After the block, restore the modules that stand-ins have replaced."""
    library = cuda_driver._library
    before = {name: sys.modules.get(name) for name in _PLACES}
    try:
        yield
    finally:
        cuda_driver._library = library
        for name, module in before.items():
            sys.modules.pop(name, None)
            if module is not None:
                sys.modules[name] = module


def stand_ins() -> list[str]:
    """Names of modules that a stand-in replaces now: no file was loaded for it."""
    modules = {name: sys.modules.get(name) for name in _PLACES}
    return [name for name, module in modules.items() if module and not hasattr(module, "__file__")]
