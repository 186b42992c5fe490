"""A machine with a TensorRT and a GPU, neither of which is there."""

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
    """Building launches none."""

    def launch(self, *_: object) -> None:
        raise AssertionError("a kernel was launched")


def install_pycuda(driver: Driver) -> Driver:
    """Put a simulated GPU in the place of PyCUDA and of the driver's library."""
    cuda_driver._library = lambda: driver.streams
    pycuda = sys.modules["pycuda"] = ModuleType("pycuda")
    pycuda.__spec__ = ModuleSpec("pycuda", None)  # how code asks whether it is installed
    sys.modules["pycuda.driver"] = driver  # type: ignore[assignment]
    return driver


def install_tensorrt(version: str, **gpu: Any) -> ModuleType:
    """Put the stand-ins in the place of `tensorrt` and PyCUDA; the former's module."""
    install_pycuda(Driver(NoKernels(), **gpu))
    return install_stand_in(version)


def install_stand_in(version: str) -> ModuleType:
    """Put the stand-in in the place of `tensorrt`, or of TensorRT-RTX's binding."""
    trt = fake_tensorrt.make(version)
    sys.modules[trt.__name__] = trt
    return trt


@contextmanager
def restored_modules() -> Iterator[None]:
    """Puts back what stood in the places that the stand-ins take."""
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
    """Places that a stand-in, which no file was loaded for, takes at present."""
    modules = {name: sys.modules.get(name) for name in _PLACES}
    return [name for name, module in modules.items() if module and not hasattr(module, "__file__")]
