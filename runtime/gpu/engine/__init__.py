"""Build TensorRT engines from the graphs of a bundle, and run them. Needs no torch."""

from .build import build_bundle_engine, engine_parts
from .keep import BuiltEngine
from .toolkit import Toolkit, default_toolkit, list_toolkits, load_toolkit

__all__ = [
    "BuiltEngine",
    "Toolkit",
    "build_bundle_engine",
    "default_toolkit",
    "engine_parts",
    "list_toolkits",
    "load_toolkit",
]
