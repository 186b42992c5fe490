"""What running on a GPU needs, and what of it this machine lacks."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable

from edgeunet.doctor import Need
from edgeunet.errors import BackendError, EdgeUNetError, MissingDependencyError

from .cuda import CudaDevice, pycuda_or_why_not
from .kernels.compile import find_nvcc
from .libcuda import Error, driver_version, library


def gpu_needs() -> tuple[Need, ...]:
    """Check for a GPU with its driver, TensorRT and nvcc, each on its own."""
    return (
        _need("GPU", _gpu),
        *_calls(),
        _need("TensorRT", _tensorrt),
        _need("nvcc", _nvcc, optional=True),
    )


def _need(name: str, find: Callable[[], str], *, optional: bool = False) -> Need:
    try:
        return Need(name, find(), None, optional)
    except EdgeUNetError as error:
        return Need(name, None, str(error), optional)
    except ModuleNotFoundError as error:  # another dependency of the extra
        return Need(name, None, str(MissingDependencyError(str(error.name), "trt")), optional)


def _gpu() -> str:
    driver = _driver()
    with CudaDevice() as device:
        memory = device.free_memory() / 1e9
        return f"{device.name} ({device.capability}), {driver}, {memory:.1f} GB free"


def _driver() -> str:
    try:
        return f"driver of CUDA {driver_version()}"
    except Error as error:
        raise BackendError(f"the NVIDIA driver does not answer: {error}. See nvidia-smi.") from None


def _calls() -> tuple[Need, ...]:
    """What calls the driver; nothing without one, which is the problem of the GPU."""
    try:
        library()
    except BackendError:
        return ()
    module, why_not = pycuda_or_why_not()
    if module is not None:
        return (Need("driver calls", "by PyCUDA", None),)
    return (Need("driver calls", "; ".join(filter(None, ["by ctypes", why_not])), None),)


def _tensorrt() -> str:
    """Version of TensorRT. If only TensorRT-RTX is installed, the version of that."""
    from .engine.toolkit import load_toolkit  # needs more than a bare installation has

    try:
        return load_toolkit("tensorrt").version
    except MissingDependencyError:
        if importlib.util.find_spec("tensorrt_rtx_bindings") is None:
            raise
    toolkit = load_toolkit("rtx")
    try:
        with CudaDevice() as device:
            card = (device.name, device.capability)
    except BackendError:  # reported as the problem of the GPU
        pass
    else:
        toolkit.check_card(*card)
    return f"{toolkit.title} {toolkit.version}"


def _nvcc() -> str:
    nvcc = find_nvcc()
    if nvcc is None:
        raise BackendError(
            "not found on PATH, in CUDA_HOME or in /usr/local/cuda. nvcc compiles a bundle's CUDA "
            "kernels at the first run. A bundle that already holds engines/kernels-*.cubin for "
            "this kind of GPU runs without it; for any other, install the CUDA toolkit."
        )
    return nvcc
