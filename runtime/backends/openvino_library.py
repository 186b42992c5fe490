"""OpenVINO as a library: imported without its telemetry; its devices and what they compute in."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from typing import Any, get_args

from edgeunet.bundle.manifest import Precision
from edgeunet.doctor import instructions
from edgeunet.errors import (
    BackendError,
    EdgeUNetError,
    MissingDependencyError,
    UsageError,
    first_line,
)
from edgeunet.extras import requirement

from ..options import DEFAULTS, LoadOptions, Processor

MAJOR = 2026
"""The year in OpenVINO's version. Those of another year may read properties otherwise, such as the
precision, and OpenVINO ignores what it does not know."""
_TELEMETRY = "openvino_telemetry"
_DRIVERS = {
    "cpu": f"This build of OpenVINO has none: pip install {requirement('openvino')}",
    "gpu": "Install Intel's driver for OpenCL (intel-opencl-icd), and join the group `render`",
    "npu": "Install Intel's driver for the NPU (linux-npu-driver)",
}


def load_openvino() -> Any:
    """The module `openvino`.

    Importing it reports that to Google Analytics, unless its package for this is missing. So it is
    hidden during the import.

    Raises:
        MissingDependencyError: it is not installed. BackendError: it cannot be loaded, or is of
        another major version.
    """
    try:
        with _telemetry_hidden():
            import openvino
    except ModuleNotFoundError as error:
        if error.name != "openvino":
            raise BackendError(f"OpenVINO cannot be loaded: {error}. Install it again.") from None
        raise MissingDependencyError("openvino") from None
    except ImportError as error:
        raise BackendError(
            f"OpenVINO is installed, but cannot be loaded: {first_line(error)}. Install the "
            "library that the message names, or OpenVINO again."
        ) from None
    if not hasattr(openvino, "get_version"):  # a folder of that name, see `is_installed`
        raise MissingDependencyError("openvino")
    version = openvino.get_version()
    if version.partition(".")[0] != str(MAJOR):
        raise BackendError(
            f"OpenVINO {version.partition('-')[0]} is installed; expected {MAJOR}.x, whose "
            f"properties are known. Install it with: pip install 'openvino>={MAJOR},<{MAJOR + 1}'."
        )
    return openvino


def openvino_core() -> Any:
    """OpenVINO's `Core`: one for the process, which is never freed. Raises as `load_openvino`.

    The CPU's part of a Core sets the stack for signals of the thread that makes it, and frees it in
    whichever thread the last owner is. Python handles signals on that stack: after another thread
    had freed it, Ctrl-C would end the process with a segmentation fault (OpenVINO 2026.4.1).
    """
    return _core_of(load_openvino())


@cache
def _core_of(openvino: Any) -> Any:
    return openvino.Core()


@contextmanager
def _telemetry_hidden() -> Iterator[None]:
    """Let nothing import `openvino_telemetry`, if `openvino` has not done so already."""
    if "openvino" in sys.modules:
        yield
        return
    held = {name: sys.modules.pop(name) for name in list(sys.modules) if _is_telemetry(name)}
    sys.modules[_TELEMETRY] = None  # type: ignore[assignment]  # Python's way to hide a module
    try:
        yield
    finally:
        del sys.modules[_TELEMETRY]
        sys.modules.update(held)


def _is_telemetry(name: str) -> bool:
    return name.partition(".")[0] == _TELEMETRY


@dataclass(frozen=True)
class Device:
    """A device of OpenVINO's: its name, such as "GPU.1", and what it is in full.

    capabilities: what it says that it computes in, such as "FP32", "BF16" and "INT8".
    """

    name: str
    title: str
    capabilities: tuple[str, ...]

    @property
    def is_cpu(self) -> bool:
        """Whether it is the processor itself."""
        return self.name == "CPU"

    @property
    def prefers_signed(self) -> bool:
        """Whether bytes with a sign and no zero point are faster than unsigned ones: with AMX.

        Without, oneDNN adds 128 to signed bytes, and before VNNI it halves the weights for them.
        """
        return self.is_cpu and "AMX" in instructions().get("INT8", ())

    @property
    def precisions(self) -> tuple[Precision, ...]:
        """What bundles can be run in on it, the closest to the reference first.

        A CPU runs graphs of FP16 also if it computes in FP32 only: with weights of FP16.
        """
        held = {name.lower() for name in self.capabilities} | ({"fp16"} if self.is_cpu else set())
        return tuple(each for each in get_args(Precision) if each in held)

    def hint(self, precision: Precision) -> str:
        """The type that OpenVINO is told to compute in what is not INT8.

        Else it takes BF16 or FP16 wherever the device has them. For INT8 that is right: the first
        convolution and the logits took up to a tenth of the time of whole nets in FP32 on a Xeon
        with AMX, and masks agreed as well in BF16.

        Raises:
            UsageError: a precision that the device does not compute in.
        """
        if precision not in self.precisions:
            able = ", ".join(each.upper() for each in self.precisions)
            raise UsageError(
                f"OpenVINO's {self.name} ({self.title}) does not compute in {precision.upper()}; "
                f"it does in {able or 'none of ours'}. Pass another --precision or --processor."
            )
        rest = precision == "int8" and self.is_cpu and "BF16" in self.capabilities
        if precision == "bf16" or rest:
            return "bf16"
        halves = "FP16" in self.capabilities
        if precision == "fp16" or (precision == "int8" and not self.is_cpu):
            return "f16" if halves else "f32"
        return "f32"


def find_device(options: LoadOptions = DEFAULTS) -> Device:
    """The device that `options.processor` and `options.device` name; None stands for the CPU.

    Raises:
        UsageError: an option that the processor does not have. BackendError: there is none here, or
        it cannot be used. Also raises as `load_openvino`.
    """
    kind: Processor = options.processor or "cpu"
    if kind == "cpu" and options.device is not None:
        raise UsageError(
            f"got device {options.device} for OpenVINO on the CPU; expected --processor gpu or npu "
            "with it. Leave one of them out."
        )
    if kind != "cpu" and options.threads is not None:
        raise UsageError(f"got threads for OpenVINO on the {kind.upper()}; they are the CPU's.")
    core = openvino_core()
    name = kind.upper()
    if kind != "cpu":
        found = [each for each in core.available_devices if each.partition(".")[0] == name]
        indices = dict(enumerate(found))
        if (options.device or 0) not in indices:
            raise _missing(core, kind, options.device)
        name = indices[options.device or 0]
    return read_device(core, name)


def devices() -> list[Device]:
    """All devices that OpenVINO finds here and that it can use; raises as `load_openvino`."""
    core = openvino_core()
    found = []
    for name in core.available_devices:
        try:
            found.append(read_device(core, name))
        except BackendError:
            continue
    return found


def read_device(core: Any, name: str) -> Device:
    """What OpenVINO says of a device; BackendError if it cannot use it."""
    try:
        title = str(core.get_property(name, "FULL_DEVICE_NAME")).strip()
        capabilities = tuple(core.get_property(name, "OPTIMIZATION_CAPABILITIES"))
    except RuntimeError as error:
        advice = _DRIVERS.get(name.partition(".")[0].lower(), "Install its driver")
        raise BackendError(
            f"OpenVINO cannot use its {name}: {reason(error)} {advice}, or pass another "
            "--processor."
        ) from None
    return Device(name, title, capabilities)


def openvino_precisions(options: LoadOptions = DEFAULTS) -> tuple[Precision, ...]:
    """What this machine's OpenVINO can run bundles in, the closest to the reference first.

    () if it is not installed, or has no such device. It opens no graph.
    """
    try:
        return find_device(options).precisions
    except EdgeUNetError:
        return ()


def reason(error: Exception) -> str:
    """Why OpenVINO failed: its last line; those above say where in its sources."""
    return first_line(str(error).strip().rpartition("\n")[2])


def _missing(core: Any, kind: Processor, index: int | None) -> BackendError:
    what = kind.upper() if index is None else f"{kind.upper()} {index}"
    listed = ", ".join(core.available_devices) or "none"
    return BackendError(
        f"OpenVINO finds no {what} here; it finds {listed}. {_DRIVERS[kind]}, or pass another "
        "--processor."
    )
