"""TensorRT and TensorRT-RTX, and what differs between their versions."""

from __future__ import annotations

import importlib
import platform
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from packaging.version import Version

from edgeunet.bundle.manifest import Exported, Flavour
from edgeunet.errors import (
    BackendError,
    EngineError,
    MissingDependencyError,
    UnknownNameError,
    UsageError,
)
from edgeunet.extras import is_installed, requirement

# Older networks are weakly typed: precision is a builder flag, and FP16 engines come from the FP32
# graph. Some older versions know strong typing, but NVIDIA advises against using it there.
_STRONGLY_TYPED_FROM = Version("10.12")
_OLDEST = Version("8.6")
_STRONG: dict[Exported, Flavour] = {"fp32": "fp32", "fp16": "fp16", "int8": "int8.fp16"}
_WEAK: dict[Exported, Flavour] = {"fp32": "fp32", "fp16": "fp32", "int8": "int8"}
_PRECISION_FLAGS: dict[Exported, tuple[str, ...]] = {"fp16": ("FP16",), "int8": ("FP16", "INT8")}
# These get INT8 ranges for the DLA only from calibration tables: NVIDIA/TensorRT #2222,
# NVIDIA/Model-Optimizer #1661.
_WEAK_DLA_NOTES: dict[Exported, str] = {
    "int8": "the DLA takes no Q/DQ nodes, and INT8 graphs have many: prefer --precision fp16"
}


@dataclass(frozen=True)
class Toolkit:
    """One version of TensorRT or TensorRT-RTX.

    Attributes:
        name: its name for `--runtime`. title: its name in messages. module: its Python binding.
        flavours: the graph that it wants for each precision.
        network_flag: member of NetworkDefinitionCreationFlag to set, if any.
        reports_progress: it has IProgressMonitor, and its parser names the node of an error.
        needs_profile_sharing: contexts may share an optimization profile only if the plan was
            built for that. Other versions always allow it.
        precision_flags: members of BuilderFlag for each precision, if it is weakly typed.
        targets: compute capabilities that it builds for ahead of time. Empty if it tunes a plan on
            the card that runs it. default_targets: the default choice.
        compiles_on_card: a plan holds no kernels. They are compiled when it first runs, and a
            runtime cache keeps them.
        notes: what users should know about a precision. dla_notes: the same, on a DLA.
    """

    name: str
    title: str
    module: Any
    version: str
    flavours: Mapping[Exported, Flavour]
    network_flag: str | None
    reports_progress: bool
    needs_profile_sharing: bool = False
    precision_flags: Mapping[Exported, tuple[str, ...]] = field(default_factory=dict)
    targets: tuple[str, ...] = ()
    default_targets: tuple[str, ...] = ()
    compiles_on_card: bool = False
    notes: Mapping[Exported, str] = field(default_factory=dict)
    dla_notes: Mapping[Exported, str] = field(default_factory=dict)

    @property
    def ahead_of_time(self) -> bool:
        """Whether it builds for cards that this machine need not have."""
        return bool(self.targets)

    @property
    def strongly_typed(self) -> bool:
        """Whether the types in the graph are the precision. Else flags and constraints are it."""
        return not self.precision_flags

    def check_card(self, name: str, capability: str) -> None:
        """Check that it supports a GPU with this compute capability, such as "sm89".

        Raises:
            BackendError: it does not.
        """
        if self.targets and capability not in self.targets:
            raise BackendError(
                f"{self.title} {self.version} has no engines for the {name} ({capability}), only "
                f"for {', '.join(self.targets)}. Use --backend tensorrt, of the extra [trt]."
            )

    def select_targets(self, wanted: Sequence[str] | None) -> tuple[str, ...]:
        """The wanted targets in ascending order, each once. Default: `default_targets`.

        Raises:
            UnknownNameError: an unknown target. UsageError: an empty list.
        """
        if wanted is None:
            return self.default_targets
        for name in wanted:
            if name not in self.targets:
                raise UnknownNameError(f"target of {self.title}", name, self.targets)
        if not wanted:
            raise UsageError(f"no target was given; choose some of {', '.join(self.targets)}.")
        return tuple(name for name in self.targets if name in wanted)


def list_toolkits() -> list[str]:
    """Names that `load_toolkit` accepts, sorted.

    Example:
        >>> list_toolkits()
        ['rtx', 'tensorrt']
    """
    return sorted(_TOOLKITS)


def default_toolkit() -> str:
    """Name of this machine's toolkit: TensorRT if it is installed, else TensorRT-RTX.

    On a Jetson always TensorRT, since RTX is for desktop cards.

    Example:
        >>> default_toolkit() in list_toolkits()
        True
    """
    jetson = platform.machine() == "aarch64"
    return "tensorrt" if jetson or is_installed("tensorrt") else "rtx"


def load_toolkit(name: str) -> Toolkit:
    """Load TensorRT or TensorRT-RTX by name.

    Raises:
        UnknownNameError: unknown name. MissingDependencyError: it is not installed.
        EngineError: it is installed, but cannot be loaded or is too old.
    """
    if name not in _TOOLKITS:
        raise UnknownNameError("runtime", name, _TOOLKITS)
    return _TOOLKITS[name]()


def _tensorrt() -> Toolkit:
    """TensorRT tunes a plan on the card that will run it."""
    trt = _import(
        "tensorrt",
        "TensorRT",
        "trt",
        missing="On a Jetson it comes with JetPack (apt install python3-libnvinfer): create the "
        "environment with python3 -m venv --system-site-packages.",
        broken="Its libraries (libnvinfer) must have the same version: reinstall them with pip "
        f"install --force-reinstall {requirement('trt')}, or add their folder to LD_LIBRARY_PATH.",
    )
    version = Version(trt.__version__)
    if version < _OLDEST:
        raise EngineError(
            f"TensorRT {version} is too old; expected {_OLDEST} or newer. On a Jetson, update to "
            "JetPack 6 or newer."
        )
    strong = version >= _STRONGLY_TYPED_FROM
    explicit = "EXPLICIT_BATCH" if version.major < 10 else None  # the default since 10
    return Toolkit(
        name="tensorrt",
        title="TensorRT",
        module=trt,
        version=trt.__version__,
        flavours=_STRONG if strong else _WEAK,
        network_flag="STRONGLY_TYPED" if strong else explicit,
        reports_progress=version.major >= 10,
        needs_profile_sharing=version.major < 10,
        precision_flags={} if strong else _PRECISION_FLAGS,
        dla_notes={} if strong else _WEAK_DLA_NOTES,
    )


def _rtx() -> Toolkit:
    """TensorRT-RTX is strongly typed and builds ahead of time on any x86-64 machine, GPU or not."""
    trt = _import(
        "tensorrt_rtx_bindings",
        "TensorRT-RTX",
        "rtx",
        broken=f"Reinstall it with pip install --force-reinstall {requirement('rtx')}.",
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
        reports_progress=True,
        targets=tuple(name.lower() for name in known),
        # GeForce RTX 30, 40 and 50. Turing (sm75) would double the plan's size and, according to
        # NVIDIA, slow down the newer cards that share it.
        default_targets=("sm86", "sm89", "sm120"),
        compiles_on_card=True,
        notes={"int8": "TensorRT-RTX documents no INT8 convolution: compare its speed with FP16's"},
    )


_TOOLKITS: dict[str, Callable[[], Toolkit]] = {"rtx": _rtx, "tensorrt": _tensorrt}


def _import(module: str, title: str, extra: str, *, missing: str = "", broken: str) -> Any:
    """Import a binding. `missing` and `broken` are the advice if that fails."""
    try:
        return importlib.import_module(module)
    except (ImportError, OSError) as error:  # missing, or a library that does not load
        if isinstance(error, ModuleNotFoundError) and error.name == module:
            raise MissingDependencyError(title, extra, hint=missing) from None
        raise EngineError(
            f"{title} is installed, but cannot be loaded: {error}. {broken}"
        ) from error
