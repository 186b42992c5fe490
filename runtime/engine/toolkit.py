"""The kinds of TensorRT that build engines, and what differs between them."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from edgeunet.errors import EngineError, MissingDependencyError, UnknownNameError, UsageError
from edgeunet.manifest import Flavour, Precision


@dataclass(frozen=True)
class Toolkit:
    """One kind of TensorRT.

    name: what `--runtime` calls it. title: what people call it. module: its Python binding.
    flavours: the graph that it wants for each precision. targets: compute capabilities that it
    builds for, default_targets: those where none are asked for. remarks: what to know of a
    precision before relying on it.
    """

    name: str
    title: str
    module: Any
    version: str
    flavours: dict[Precision, Flavour]
    targets: tuple[str, ...]
    default_targets: tuple[str, ...]
    remarks: dict[Precision, str]

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


def load_toolkit(name: str) -> Toolkit:
    """The kind of TensorRT of that name.

    Raises:
        UnknownNameError: no such kind. MissingDependencyError: it is not installed.
        EngineError: it is installed, but cannot be loaded.
    """
    if name not in _TOOLKITS:
        raise UnknownNameError("runtime", name, _TOOLKITS)
    return _TOOLKITS[name]()


def _rtx() -> Toolkit:
    """TensorRT-RTX: strongly typed, builds ahead of time on any x86-64 machine, GPU or not."""
    trt = _import("tensorrt_rtx_bindings", "TensorRT-RTX", "rtx")
    members = trt.ComputeCapability.__members__
    known = sorted((name for name in members if name.startswith("SM")), key=lambda n: int(n[2:]))
    return Toolkit(
        name="rtx",
        title="TensorRT-RTX",
        module=trt,
        version=trt.__version__,
        flavours={"fp32": "fp32", "fp16": "fp16", "int8": "int8.fp16"},
        targets=tuple(name.lower() for name in known),
        # GeForce RTX 30, 40 and 50. Turing (sm75) doubles the plan and, says NVIDIA, slows the
        # newer cards that share it.
        default_targets=("sm86", "sm89", "sm120"),
        remarks={
            "int8": "TensorRT-RTX documents no INT8 convolution: time FP16 against it on the GPU"
        },
    )


_TOOLKITS: dict[str, Callable[[], Toolkit]] = {"rtx": _rtx}


def _import(module: str, title: str, extra: str) -> Any:
    try:
        return importlib.import_module(module)
    except (ImportError, OSError) as error:  # missing, or a library that this system cannot load
        if isinstance(error, ModuleNotFoundError) and error.name == module:
            raise MissingDependencyError(title, extra) from None
        raise EngineError(f"{title} is installed, but cannot be loaded: {error}") from error
