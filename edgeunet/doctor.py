"""What this machine can run, and what is missing for the rest."""

from __future__ import annotations

import importlib.util
import os
import platform
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

# Distribution -> (module, extra, commands that take it: what for).
_PARTS = {
    "onnxruntime": ("onnxruntime", "cpu", "run, bench, serve, export, parity: bundles on the CPU"),
    "opencv-python-headless": ("cv2", "cpu", "all but lint and models: images"),
    "av": ("av", "video", "run, serve: videos and cameras (rtsp, http, v4l2)"),
    "pycocotools": ("pycocotools", "video", "run, serve: masks as run lengths"),
    "starlette": ("starlette", "serve", "serve"),
    "uvicorn": ("uvicorn", "serve", "serve"),
    "pillow": ("PIL", "serve", "serve: images that it is sent"),
    "prometheus-client": ("prometheus_client", "serve", "serve: /metrics"),
    "torch": ("torch", "export", "export, parity, gate, models, train, prune: the nets"),
    "safetensors": ("safetensors", "export", "export, parity, gate, models, train, prune: weights"),
    "onnx": ("onnx", "export", "export, lint, prune: graphs"),
    "jinja2": ("jinja2", "export", "export, parity: reports as pages"),
    "onnx-ir": ("onnx_ir", "export", "export, prune: passes over graphs"),
    "torchmetrics": ("torchmetrics", "train", "train, prune: a loss"),
    "torch-pruning": ("torch_pruning", "train", "prune"),
    "filelock": ("filelock", "trt", "build, run on a GPU: engines"),
    "packaging": ("packaging", "trt", "build, run on a GPU: versions of TensorRT"),
    "tensorrt-rtx-cu13-libs": ("tensorrt_rtx_bindings", "rtx", "build: engines for RTX GPUs"),
}


@dataclass(frozen=True)
class Part:
    """One dependency; `version` is None where it is missing."""

    name: str
    version: str | None
    extra: str
    purpose: str


@dataclass(frozen=True)
class Need:
    """What a GPU takes: `found` says what is there, or `problem` what is missing and what to do.

    optional: some bundles run without it, and `problem` says which.
    """

    name: str
    found: str | None
    problem: str | None
    optional: bool = False


@dataclass(frozen=True)
class Diagnosis:
    """Environment, dependencies, and warnings in plain words."""

    environment: dict[str, str]
    parts: tuple[Part, ...]
    warnings: tuple[str, ...]


def diagnose() -> Diagnosis:
    """Look at the machine without importing anything heavy."""
    parts = tuple(
        Part(name, _version(name, module), extra, purpose)
        for name, (module, extra, purpose) in _PARTS.items()
    )
    return Diagnosis(environment(), parts, tuple(_warnings()))


def environment() -> dict[str, str]:
    """Machine, processor, cores and versions: what a measured number depends on."""
    found = {
        "machine": platform.machine(),
        "processor": _processor(),
        "cores": str(cores()),
        "system": platform.platform(),
        "python": platform.python_version(),
    }
    for name, (module, _, _) in _PARTS.items():
        if (number := _version(name, module)) is not None:
            found[name] = number
    return found


def cores() -> int:
    """Cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _version(distribution: str, module: str) -> str | None:
    try:
        return version(distribution)
    except PackageNotFoundError:
        # JetPack brings its own OpenCV, without a distribution of that name.
        return "installed" if importlib.util.find_spec(module) else None


def _cpu_field(name: str) -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return ""
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith(name)), "")


def _processor() -> str:
    return _cpu_field("model name") or platform.processor() or "unknown"


def _warnings() -> list[str]:
    flags = set(_cpu_field("flags").split())
    warnings = []
    if flags and not flags & {"avx512_vnni", "avx_vnni"}:
        warnings.append(
            "this x86 processor has no VNNI: INT8 sums of 8-bit products may saturate, and INT8 is "
            "little faster than FP32. Compare with `edgeunet parity` before using it."
        )
    return warnings
