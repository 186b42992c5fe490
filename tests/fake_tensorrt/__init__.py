"""A stand-in for NVIDIA's TensorRT that has the names of one version, and no other."""

from __future__ import annotations

from types import ModuleType

from .surface import build_module, read_surface, recorded_versions

__all__ = ["make", "recorded_versions"]


def make(version: str) -> ModuleType:
    """Module to put in the place of `tensorrt`, of one of `recorded_versions()`."""
    return build_module(read_surface(version), {}, {})
