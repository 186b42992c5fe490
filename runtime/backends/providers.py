"""ONNX Runtime's execution providers: what each needs, and which graphs it gets."""

from __future__ import annotations

import platform
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from edgeunet.bundle.manifest import Exported, Flavour
from edgeunet.errors import MissingDependencyError, UnknownNameError
from edgeunet.extras import is_installed

from ..gpu.libcuda import has_gpu
from .hexagon import find_hexagon

try:
    import onnxruntime
except ImportError:
    raise MissingDependencyError("onnxruntime", "cpu") from None
if not hasattr(onnxruntime, "InferenceSession"):  # a folder of that name, see `is_installed`
    raise MissingDependencyError("onnxruntime", "cpu")

_FLOAT: Mapping[Exported, Flavour] = {"fp32": "fp32", "fp16": "fp16"}
_NO_INT8 = "it would turn INT8 graphs into float ones"


@dataclass(frozen=True, kw_only=True)
class Provider:
    """One of ONNX Runtime's execution providers.

    Attributes:
        title: ONNX Runtime's name of it. package: what pip installs; empty if no wheel has it.
        plugin: module of a package that adds it to any ONNX Runtime; None if ONNX Runtime itself
            must be another wheel.
        graphs: the graph that it gets for each precision that it computes in. refuses: why it gets
            no others.
        settings: its own options, of the device's index, the number of CPU threads and the
            precision. session: attributes of ONNX Runtime's `SessionOptions`.
        nvidia: it needs an NVIDIA GPU. modules: they load libraries that it needs.
        devices: kinds of a plug-in's devices to run on, the best first.
        takes_device: whether an index chooses among several devices.
        one_image: it needs all sides to be known, so it gets one image at a time.
        starts_fast: it does not compile for minutes at each start.
        has_hardware: whether this machine seems to have what it is for.
        problem: why it may not work on this machine; None if nothing is known.
    """

    title: str
    package: str
    plugin: str | None = None
    graphs: Mapping[Exported, Flavour]
    refuses: str = ""
    settings: Callable[[int, int, Exported], dict[str, str]] = lambda device, threads, precision: {}
    session: tuple[tuple[str, object], ...] = ()
    nvidia: bool = False
    modules: tuple[str, ...] = ()
    devices: tuple[str, ...] = ()
    takes_device: bool = False
    one_image: bool = False
    starts_fast: bool = True
    has_hardware: Callable[[], bool]
    problem: Callable[[], str | None] = lambda: None

    @property
    def is_built_in(self) -> bool:
        """Whether the installed ONNX Runtime was built with it. It may still fail to load."""
        return self.title in onnxruntime.get_available_providers()

    @property
    def is_plugin(self) -> bool:
        """Whether it is a plug-in that is here.

        Once one is registered, ONNX Runtime lists it as if it was built in.
        """
        return self.plugin is not None and is_installed(self.plugin)

    @property
    def is_installed(self) -> bool:
        """Whether it is built in, or a plug-in that is here."""
        return self.is_built_in or self.is_plugin

    @property
    def advice(self) -> str:
        """What to install, or to do instead."""
        if not self.package:
            return "No wheel has it: build ONNX Runtime with it, or leave out --provider."
        advice = f"pip install '{self.package}'"
        if self.plugin is None:  # wheels of onnxruntime overwrite each other's files
            advice += ", in a Python without another onnxruntime"
        if self.nvidia:
            advice += "; it also needs NVIDIA's driver"
        return f"To install it: {advice}. Or leave out --provider."


def _no_gpu() -> str | None:
    return None if has_gpu() else "this machine shows no NVIDIA GPU"


def _no_hexagon() -> str | None:
    """Why a board does not reach its Hexagon. Elsewhere an emulator takes its place."""
    found = find_hexagon()
    return None if found.soc is None else found.problem


PROVIDERS: dict[str, Provider] = {
    "coreml": Provider(
        title="CoreMLExecutionProvider",
        package="onnxruntime",  # its wheel for macOS
        graphs=_FLOAT,
        refuses=_NO_INT8,
        settings=lambda device, threads, precision: {
            "ModelFormat": "MLProgram",
            "MLComputeUnits": "ALL",
            "RequireStaticInputShapes": "1",
        },
        one_image=True,
        has_hardware=lambda: sys.platform == "darwin",
    ),
    "cuda": Provider(
        title="CUDAExecutionProvider",
        package="onnxruntime-gpu[cuda,cudnn]",
        graphs=_FLOAT,
        refuses=_NO_INT8,
        # TF32 rounds factors to 10 bits of mantissa. Parity was measured in FP32.
        settings=lambda device, threads, precision: {"device_id": str(device), "use_tf32": "0"},
        nvidia=True,
        problem=_no_gpu,
        takes_device=True,
        has_hardware=has_gpu,
    ),
    "dml": Provider(
        title="DmlExecutionProvider",
        package="onnxruntime-directml",
        graphs=_FLOAT,
        refuses=_NO_INT8,
        settings=lambda device, threads, precision: {"device_id": str(device)},
        session=(("enable_mem_pattern", False),),  # DirectML does not support them
        takes_device=True,
        one_image=True,
        has_hardware=lambda: sys.platform == "win32",
    ),
    "nvtensorrtrtx": Provider(
        title="NvTensorRTRTXExecutionProvider",
        package="onnxruntime-ep-nv-tensorrt-rtx",
        plugin="onnxruntime_ep_nv_tensorrt_rtx",
        # The types in the graph are the precision.
        graphs={**_FLOAT, "int8": "int8.fp16"},
        nvidia=True,
        problem=_no_gpu,
        devices=("GPU",),
        takes_device=True,
        one_image=True,
        starts_fast=False,
        has_hardware=has_gpu,
    ),
    "openvino": Provider(
        title="OpenVINOExecutionProvider",
        package="onnxruntime-openvino",
        graphs={**_FLOAT, "int8": "int8.openvino"},
        settings=lambda device, threads, precision: {
            "device_type": "CPU",
            "num_of_threads": str(threads),
        },
        has_hardware=lambda: True,
    ),
    "qnn": Provider(
        title="QNNExecutionProvider",
        package="onnxruntime-qnn",
        plugin="onnxruntime_qnn",
        graphs={"fp16": "fp16", "int8": "int8.qnn"},
        refuses="Hexagon computes FP32 graphs in FP16 too, which is less than FP32 promises",
        settings=lambda device, threads, precision: {"backend_type": "htp"},
        devices=("NPU", "CPU"),  # on x86-64, Hexagon's emulator is a CPU
        one_image=True,
        has_hardware=lambda: platform.machine().lower() in ("aarch64", "arm64"),
        problem=_no_hexagon,
    ),
    "tensorrt": Provider(
        title="TensorrtExecutionProvider",
        package="onnxruntime-gpu[cuda,cudnn]' 'tensorrt-cu13<11",
        # Flags are the precision, see `Toolkit`.
        graphs={"fp32": "fp32", "fp16": "fp32", "int8": "int8"},
        settings=lambda device, threads, precision: {
            "device_id": str(device),
            "trt_fp16_enable": str(int(precision != "fp32")),
            "trt_int8_enable": str(int(precision == "int8")),
        },
        nvidia=True,
        problem=_no_gpu,
        modules=("tensorrt",),
        takes_device=True,
        one_image=True,
        starts_fast=False,
        has_hardware=has_gpu,
    ),
    "xnnpack": Provider(
        title="XnnpackExecutionProvider",
        package="",
        graphs={"fp32": "fp32"},
        refuses="its kernels for other types were not tried",
        settings=lambda device, threads, precision: {"intra_op_num_threads": str(threads)},
        session=(("intra_op_num_threads", 1),),  # it has threads of its own
        has_hardware=lambda: True,
    ),
}
"""All but the CPU's own, by the name that users give them."""
_FOR_THE_CPU = ("openvino", "xnnpack")


def find_provider(name: str) -> Provider:
    """A provider by name; UnknownNameError if there is none."""
    if name not in PROVIDERS:
        raise UnknownNameError("provider", name, [*PROVIDERS, "cpu"])
    return PROVIDERS[name]


def usable_providers() -> list[str]:
    """Providers for a GPU or NPU that this machine seems to have, by package and hardware.

    None was started, so any may still fail. Those that compile for minutes at each start are left
    out.

    Example:
        >>> from edgeunet.runtime.backends.providers import PROVIDERS, usable_providers
        >>> set(usable_providers()) <= set(PROVIDERS)
        True
    """
    return [
        name
        for name, each in PROVIDERS.items()
        if name not in _FOR_THE_CPU
        and each.starts_fast
        and each.has_hardware()
        and each.is_installed
    ]


def precisions_of(name: str) -> tuple[Exported, ...]:
    """Precisions that a provider computes in, the closest to the reference first.

    Raises:
        UnknownNameError: there is no such provider.

    Example:
        >>> from edgeunet.runtime.backends.providers import precisions_of
        >>> precisions_of("cuda")
        ('fp32', 'fp16')
    """
    return tuple(find_provider(name).graphs)
