"""What running on a GPU takes, and what of it is missing on this machine."""

from __future__ import annotations

import ctypes
import importlib.util
from collections.abc import Callable

from edgeunet.doctor import Need
from edgeunet.errors import BackendError, EdgeUNetError, MissingDependencyError

from .cuda import CudaDevice, import_pycuda, missing_pycuda
from .kernels.compile import find_nvcc


def gpu_needs() -> tuple[Need, ...]:
    """GPU with its driver, a TensorRT, PyCUDA and compiler, each looked for by itself."""
    return (
        _look("GPU", _gpu),
        _look("TensorRT", _tensorrt),
        _look("PyCUDA", _pycuda),
        _look("nvcc", _nvcc, optional=True),
    )


def _look(name: str, look: Callable[[], str], *, optional: bool = False) -> Need:
    try:
        return Need(name, look(), None, optional)
    except EdgeUNetError as error:
        return Need(name, None, str(error), optional)
    except ModuleNotFoundError as error:  # what the extra brings besides
        return Need(name, None, str(MissingDependencyError(str(error.name), "trt")), optional)


def _gpu() -> str:
    driver = _driver()
    try:
        import_pycuda()
    except EdgeUNetError:  # said in the place of PyCUDA
        return driver
    with CudaDevice() as device:
        memory = device.free_memory() / 1e9
        return f"{device.name} ({device.capability}), {driver}, {memory:.1f} GB free"


def _driver() -> str:
    library = _libcuda()
    version = ctypes.c_int()
    code = library.cuDriverGetVersion(ctypes.byref(version))
    if code:
        raise BackendError(f"the NVIDIA driver does not answer: CUDA error {code}. See nvidia-smi.")
    return f"driver of CUDA {version.value // 1000}.{version.value % 1000 // 10}"


def _libcuda() -> ctypes.CDLL:
    try:
        return ctypes.CDLL("libcuda.so.1")
    except OSError as error:
        raise BackendError(
            f"no NVIDIA driver: {error}. Install it; in a container, pass the GPU in (docker run "
            "--gpus all, on Jetson --runtime nvidia)."
        ) from None


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
    try:
        _libcuda()
    except BackendError:  # said in the place of GPU; without it no PyCUDA loads
        return "installed"
    import_pycuda()
    return "installed"


def _nvcc() -> str:
    nvcc = find_nvcc()
    if nvcc is None:
        raise BackendError(
            "not on PATH, in CUDA_HOME or in /usr/local/cuda. It compiles a bundle's CUDA kernels "
            "at the first run; a bundle whose engines/kernels-*.cubin comes from this kind of GPU "
            "runs without it. For others, install the CUDA toolkit."
        )
    return nvcc
