"""What this machine can run, and what is missing."""

from __future__ import annotations

import hashlib
import os
import platform
from dataclasses import dataclass
from pathlib import Path

from .extras import PACKAGES

_CPUINFO = Path("/proc/cpuinfo")
_BOARD = Path("/proc/device-tree/model")  # of ARM boards, whose cpuinfo names no processor
# Flags of Linux for instructions that compute in less than FP32, x86-64 first, then ARM.
_INSTRUCTIONS = {
    "INT8": {
        "amx_int8": "AMX",
        "avx512_vnni": "VNNI",
        "avx_vnni": "VNNI",
        "i8mm": "I8MM",
        "asimddp": "DotProd",
    },
    "BF16": {"amx_bf16": "AMX", "avx512_bf16": "AVX-512", "bf16": "BF16"},
    "FP16": {"amx_fp16": "AMX", "avx512_fp16": "AVX-512", "asimdhp": "FP16"},
}
_NO_VNNI = (
    "this x86 processor has no VNNI: INT8 gains less over FP32 than on others. "
    "`edgeunet bench` measures both; --precision chooses."
)


@dataclass(frozen=True)
class Dependency:
    """An optional package; `version` is None if it is missing."""

    name: str
    version: str | None
    extra: str
    purpose: str


@dataclass(frozen=True)
class Need:
    """Something that running on a GPU needs.

    found: what is there. problem: what is missing and what to do. One of the two is None.
    optional: some bundles run without it; `problem` says which.
    """

    name: str
    found: str | None
    problem: str | None
    optional: bool = False


@dataclass(frozen=True)
class Diagnosis:
    """Environment, optional packages, and warnings in plain words.

    instructions: see the function.
    """

    environment: dict[str, str]
    instructions: dict[str, tuple[str, ...]]
    parts: tuple[Dependency, ...]
    warnings: tuple[str, ...]


def diagnose() -> Diagnosis:
    """Look at the machine without importing anything heavy."""
    parts = tuple(
        Dependency(package.name, package.version(), package.extra, package.purpose)
        for package in PACKAGES
    )
    return Diagnosis(environment(), instructions(), parts, (_NO_VNNI,) if lacks_vnni() else ())


def environment() -> dict[str, str]:
    """What a measured number depends on: machine, processor, cores and versions."""
    return {
        **_processor(),
        "system": platform.platform(),
        "python": platform.python_version(),
        **package_versions(),
    }


def package_versions() -> dict[str, str]:
    """Of the packages in `PACKAGES` that are installed."""
    versions = {package.name: package.version() for package in PACKAGES}
    return {name: version for name, version in versions.items() if version is not None}


def processor_identity() -> dict[str, str]:
    """What the speed of an engine depends on: kind of processor, its instructions and cores.

    Example:
        >>> from edgeunet.doctor import processor_identity
        >>> sorted(processor_identity())
        ['cores', 'flags', 'machine', 'processor']
    """
    known = _processor()
    # On ARM, "Features" are the instructions, and the part's number tells the core.
    flags = " ".join(_cpu_field(name) for name in ("flags", "Features", "CPU part"))
    listed = " ".join(sorted(set(flags.split())))
    return {**known, "flags": hashlib.sha256(listed.encode()).hexdigest()[:16]}


def _processor() -> dict[str, str]:
    """Machine, processor and cores, as people know them."""
    return {
        "machine": platform.machine(),
        "processor": _board() or _cpu_field("model name") or platform.processor() or "unknown",
        "cores": str(cores()),
    }


def cores() -> int:
    """Cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def lacks_vnni() -> bool:
    """True on an x86-64 processor without VNNI instructions; False if Linux does not say.

    ONNX Runtime then takes several instructions for an INT8 product, and adds pairs of them in 16
    bits, which saturates if the weights allow it (its documentation, "Quantize ONNX models", on
    U8S8). Those of a bundle do not.
    """
    flags = set(_cpu_field("flags").split())  # ARM has "Features"
    return bool(flags) and not flags & {"avx512_vnni", "avx_vnni"}


def instructions() -> dict[str, tuple[str, ...]]:
    """What the processor has for each type below FP32, such as {"INT8": ("AMX", "VNNI"), …}.

    No key if the system does not say.
    """
    flags = set(f"{_cpu_field('flags')} {_cpu_field('Features')}".split())
    if not flags:
        return {}
    return {
        kind: tuple(dict.fromkeys(name for flag, name in known.items() if flag in flags))
        for kind, known in _INSTRUCTIONS.items()
    }


def told_by(path: Path) -> str:
    """What a file says that the kernel writes; empty if it is not there.

    Example:
        >>> from pathlib import Path
        >>> from edgeunet.doctor import told_by
        >>> told_by(Path("/sys/no/such/file"))
        ''
    """
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip("\0\n ")
    except OSError:
        return ""


def _board() -> str:
    """Such as "NVIDIA Jetson Orin Nano Developer Kit"; empty if there is no device tree."""
    return told_by(_BOARD)


def _cpu_field(name: str) -> str:
    try:
        lines = _CPUINFO.read_text(encoding="utf-8").splitlines()
    except OSError:
        return ""
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith(name)), "")
