"""Install stand-ins for TensorRT and for a GPU in this process."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any

from support import fake_tensorrt
from support.fake_cuda import FakeCuda

_PLACES = ("tensorrt", "tensorrt_rtx_bindings")
_machines: list[FakeCuda] = []


def install_tensorrt(version: str, **gpu: Any) -> ModuleType:
    """Put a GPU in place, and a stand-in for `tensorrt`, whose module is returned."""
    driver, trt = install_gpu(**gpu), install_stand_in(version)
    trt.enqueue = driver.enqueue  # type: ignore[attr-defined]
    return trt


def install_gpu(**gpu: Any) -> FakeCuda:
    """Put a GPU in place until the end of the block `restored_modules`."""
    _machines.append(FakeCuda(**gpu))
    return _machines[-1]


def install_stand_in(version: str) -> ModuleType:
    """Replace `tensorrt` or TensorRT-RTX's binding by a stand-in. Returns its module."""
    trt = fake_tensorrt.make(version)
    sys.modules[trt.__name__] = trt
    return trt


@contextmanager
def restored_modules() -> Iterator[None]:
    """After the block, restore the modules that stand-ins have replaced, and end its GPUs.

    Raises:
        AssertionError: as `FakeCuda.close`.
    """
    before = {name: sys.modules.get(name) for name in _PLACES}
    outside = len(_machines)
    failed = True
    try:
        yield
        failed = False
    finally:
        for name, module in before.items():
            sys.modules.pop(name, None)
            if module is not None:
                sys.modules[name] = module
        inside = _machines[outside:]
        del _machines[outside:]
        for machine in inside[::-1]:
            if failed:
                machine.end()
            else:
                machine.close()


def stand_ins() -> list[str]:
    """Names of modules that a stand-in replaces now: no file was loaded for it."""
    modules = {name: sys.modules.get(name) for name in _PLACES}
    found = [name for name, module in modules.items() if module and not hasattr(module, "__file__")]
    return [*found, *("libcuda" for _ in _machines)]
