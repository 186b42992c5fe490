"""What running on a GPU needs, and what of it this machine lacks."""

from __future__ import annotations

from collections.abc import Callable

from edgeunet.doctor import Need
from edgeunet.errors import BackendError, EdgeUNetError, MissingDependencyError
from edgeunet.extras import is_installed

from .cuda import CudaDevice, pycuda_or_why_not
from .kernels.compile import find_nvcc, nvcc_is_missing
from .kernels.shipped import UnfitError, list_shipped, load_shipped
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
        if not is_installed("tensorrt_rtx_bindings"):
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
    if nvcc is not None:
        return nvcc
    try:
        device = CudaDevice()
    except BackendError:  # reported as the problem of the GPU
        return f"not found; only GPUs other than {', '.join(list_shipped())} need it"
    with device:
        try:
            load_shipped(device)
        except UnfitError as error:
            raise BackendError(nvcc_is_missing(device.capability, error)) from None
        return f"not found, and {device.name} ({device.capability}) does not need it"
