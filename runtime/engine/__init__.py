"""Engines: a graph of a bundle in, a plan for GPUs out. Needs TensorRT, and no torch."""

from .build import BuiltEngine, build_bundle_engine, build_engine
from .toolkit import Toolkit, list_toolkits, load_toolkit

__all__ = [
    "BuiltEngine",
    "Toolkit",
    "build_bundle_engine",
    "build_engine",
    "list_toolkits",
    "load_toolkit",
]
