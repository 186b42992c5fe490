"""What running on a GPU takes, and what of it is missing on this machine."""

from __future__ import annotations

import ctypes
import importlib.util
from collections.abc import Callable

from edgeunet.doctor import Need
from edgeunet.errors import BackendError, EdgeUNetError, MissingDependencyError

from .cuda import CudaDevice, missing_pycuda
from .nvcc import find_nvcc


def gpu_needs() -> tuple[Need, ...]:
    """GPU with its driver, a TensorRT, PyCUDA and compiler, each looked for by itself."""
    return tuple(
        _look(name, look)
        for name, look in (
            ("GPU", _gpu),
            ("TensorRT", _tensorrt),
            ("PyCUDA", _pycuda),
            ("nvcc", _nvcc),
        )
    )


def _look(name: str, look: Callable[[], str]) -> Need:
    try:
        return Need(name, look(), None)
    except EdgeUNetError as error:
        return Need(name, None, str(error))
    except ModuleNotFoundError as error:  # what the extra brings besides
        return Need(name, None, str(MissingDependencyError(str(error.name), "trt")))


def _gpu() -> str:
    driver = _driver()
    try:
        with CudaDevice() as device:
            memory = device.free_memory() / 1e9
            return f"{device.name} ({device.capability}), {driver}, {memory:.1f} GB free"
    except MissingDependencyError:  # said in the place of PyCUDA
        return driver


def _driver() -> str:
    try:
        library = ctypes.CDLL("libcuda.so.1")
    except OSError as error:
        raise BackendError(
            f"no NVIDIA driver: {error}. Install it; in a container, pass the GPU in (docker run "
            "--gpus all, on Jetson --runtime nvidia)."
        ) from None
    version = ctypes.c_int()
    code = library.cuDriverGetVersion(ctypes.byref(version))
    if code:
        raise BackendError(f"the NVIDIA driver does not answer: CUDA error {code}. See nvidia-smi.")
    return f"driver of CUDA {version.value // 1000}.{version.value % 1000 // 10}"


def _tensorrt() -> str:
    """Version of TensorRT, or of TensorRT-RTX where only that is installed."""
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
    except (BackendError, MissingDependencyError):  # said in the place of GPU or PyCUDA
        pass
    else:
        toolkit.check_card(*card)
    return f"{toolkit.title} {toolkit.version}"


def _pycuda() -> str:
    if importlib.util.find_spec("pycuda") is None:
        raise missing_pycuda()
    return "installed"


def _nvcc() -> str:
    nvcc = find_nvcc()
    if nvcc is None:
        raise BackendError(
            "no nvcc on PATH, in CUDA_HOME or in /usr/local/cuda: it compiles the kernels once. "
            "Install the CUDA toolkit, or copy engines/kernels-*.cubin from a machine of the same "
            "GPU."
        )
    return nvcc
