"""The kinds and versions of TensorRT that build engines, and what differs between them."""

from __future__ import annotations

import importlib
import importlib.util
import platform
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from packaging.version import Version

from edgeunet.bundle.manifest import Flavour, Precision
from edgeunet.errors import (
    BackendError,
    EngineError,
    MissingDependencyError,
    UnknownNameError,
    UsageError,
)

# Before, a network is typed weakly: precision is a flag, and the FP32 graph serves for FP16. NVIDIA
# advises against strong typing in the versions that know it but are older than this.
_STRONGLY_TYPED_FROM = Version("10.12")
_OLDEST = Version("8.6")
_STRONG: dict[Precision, Flavour] = {"fp32": "fp32", "fp16": "fp16", "int8": "int8.fp16"}
_WEAK: dict[Precision, Flavour] = {"fp32": "fp32", "fp16": "fp32", "int8": "int8"}
_PRECISION_FLAGS: dict[Precision, tuple[str, ...]] = {"fp16": ("FP16",), "int8": ("FP16", "INT8")}
# It knows INT8 by calibration tables alone: NVIDIA/TensorRT #2222, NVIDIA/Model-Optimizer #1661.
_WEAK_DLA_REMARKS: dict[Precision, str] = {
    "int8": "the DLA takes no Q/DQ nodes, which an INT8 graph is full of: prefer --precision fp16"
}


@dataclass(frozen=True)
class Toolkit:
    """One kind of TensorRT, of one version.

    name: what `--runtime` calls it. title: what people call it. module: its Python binding.
    flavours: the graph that it wants for each precision, precision_flags: the members of
    BuilderFlag that a weakly typed one wants with it. network_flag: member of
    NetworkDefinitionCreationFlag. tells: it has an IProgressMonitor, and its parser names the node
    that it refuses. shares_profiles_if_asked: several contexts may use one optimization profile
    only in a plan that was built for it; with other versions they always may. targets: compute
    capabilities that it builds for ahead of time, none for one that tunes plans on the card that
    runs them; default_targets: those where none are asked for. compiles_on_card: a plan holds no
    kernels: they are compiled when it first runs, and a runtime cache keeps them. remarks: what to
    know of a precision before relying on it, dla_remarks: on a DLA.
    """

    name: str
    title: str
    module: Any
    version: str
    flavours: Mapping[Precision, Flavour]
    network_flag: str | None
    tells: bool
    shares_profiles_if_asked: bool = False
    precision_flags: Mapping[Precision, tuple[str, ...]] = field(default_factory=dict)
    targets: tuple[str, ...] = ()
    default_targets: tuple[str, ...] = ()
    compiles_on_card: bool = False
    remarks: Mapping[Precision, str] = field(default_factory=dict)
    dla_remarks: Mapping[Precision, str] = field(default_factory=dict)

    @property
    def ahead_of_time(self) -> bool:
        """It builds for cards that need not be there."""
        return bool(self.targets)

    def check_card(self, name: str, capability: str) -> None:
        """Whether it has engines for a GPU that is there, by its compute capability, "sm89".

        Raises:
            BackendError: it has none.
        """
        if self.targets and capability not in self.targets:
            raise BackendError(
                f"{self.title} {self.version} has no engines for the {name} ({capability}), only "
                f"for {', '.join(self.targets)}. Use --backend tensorrt, of edgeunet[trt]."
            )

    def select_targets(self, wanted: Sequence[str] | None) -> tuple[str, ...]:
        """Targets in ascending order, each once; the default ones for None.

        Raises:
            UnknownNameError: one that this builder does not know. UsageError: an empty list.
        """
        if wanted is None:
            return self.default_targets
        for name in wanted:
            if name not in self.targets:
                raise UnknownNameError(f"target of {self.title}", name, self.targets)
        if not wanted:
            raise UsageError(f"no target was given; name some of {', '.join(self.targets)}.")
        return tuple(name for name in self.targets if name in wanted)


def list_toolkits() -> list[str]:
    """Names that `load_toolkit` takes, sorted."""
    return sorted(_TOOLKITS)


def default_toolkit() -> str:
    """The kind that belongs to this machine: TensorRT where it is installed, else TensorRT-RTX.

    On a Jetson always TensorRT: RTX is for desktop cards.
    """
    jetson = platform.machine() == "aarch64"
    return "tensorrt" if jetson or importlib.util.find_spec("tensorrt") else "rtx"


def load_toolkit(name: str) -> Toolkit:
    """The kind of TensorRT of that name.

    Raises:
        UnknownNameError: no such kind. MissingDependencyError: it is not installed.
        EngineError: it is installed, but cannot be loaded, or is too old.
    """
    if name not in _TOOLKITS:
        raise UnknownNameError("runtime", name, _TOOLKITS)
    return _TOOLKITS[name]()


def _tensorrt() -> Toolkit:
    """TensorRT: tunes a plan on the card that will run it."""
    trt = _import(
        "tensorrt",
        "TensorRT",
        "trt",
        missing="On a Jetson JetPack brings it (apt install python3-libnvinfer): make the "
        "environment with python3 -m venv --system-site-packages.",
        broken="Its libraries (libnvinfer) must be of the same version: install them again with "
        "pip install --force-reinstall 'edgeunet[trt]', or add their folder to LD_LIBRARY_PATH.",
    )
    version = Version(trt.__version__)
    if version < _OLDEST:
        raise EngineError(
            f"TensorRT {version} is too old; {_OLDEST} or newer was wanted. On a Jetson it comes "
            "with JetPack 6 and newer."
        )
    strong = version >= _STRONGLY_TYPED_FROM
    explicit = "EXPLICIT_BATCH" if version.major < 10 else None  # implied from then on
    return Toolkit(
        name="tensorrt",
        title="TensorRT",
        module=trt,
        version=trt.__version__,
        flavours=_STRONG if strong else _WEAK,
        network_flag="STRONGLY_TYPED" if strong else explicit,
        tells=version.major >= 10,
        shares_profiles_if_asked=version.major < 10,
        precision_flags={} if strong else _PRECISION_FLAGS,
        dla_remarks={} if strong else _WEAK_DLA_REMARKS,
    )


def _rtx() -> Toolkit:
    """TensorRT-RTX: strongly typed, builds ahead of time on any x86-64 machine, GPU or not.

    Its contexts share a profile as those of TensorRT 10 do: the feature to ask for it is gone.
    """
    trt = _import(
        "tensorrt_rtx_bindings",
        "TensorRT-RTX",
        "rtx",
        broken="Install it again with pip install --force-reinstall 'edgeunet[rtx]'.",
    )
    members = trt.ComputeCapability.__members__
    known = sorted((name for name in members if name.startswith("SM")), key=lambda n: int(n[2:]))
    return Toolkit(
        name="rtx",
        title="TensorRT-RTX",
        module=trt,
        version=trt.__version__,
        flavours=_STRONG,
        network_flag="STRONGLY_TYPED",
        tells=True,
        targets=tuple(name.lower() for name in known),
        # GeForce RTX 30, 40 and 50. Turing (sm75) doubles the plan and, says NVIDIA, slows the
        # newer cards that share it.
        default_targets=("sm86", "sm89", "sm120"),
        compiles_on_card=True,
        remarks={
            "int8": "TensorRT-RTX documents no INT8 convolution: time FP16 against it on the GPU"
        },
    )


_TOOLKITS: dict[str, Callable[[], Toolkit]] = {"rtx": _rtx, "tensorrt": _tensorrt}


def _import(module: str, title: str, extra: str, *, missing: str = "", broken: str) -> Any:
    """A binding; `missing` and `broken` say what to do where it is not there or does not load."""
    try:
        return importlib.import_module(module)
    except (ImportError, OSError) as error:  # missing, or a library that this system cannot load
        if isinstance(error, ModuleNotFoundError) and error.name == module:
            raise MissingDependencyError(title, extra, hint=missing) from None
        raise EngineError(
            f"{title} is installed, but cannot be loaded: {error}. {broken}"
        ) from error
