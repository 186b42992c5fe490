"""Builds of small bundles with the stand-ins for TensorRT."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from edgeunet.errors import EngineError
from edgeunet.runtime.gpu.engine import BuiltEngine, build_bundle_engine
from support.fake_tensorrt.plan import Plan
from support.small_bundle import names
from support.tensorrt_machine import install_tensorrt

WEAK, STRONG = ("8.6.0", "10.3.0"), ("10.16.1", "11.4.0")
VERSIONS = (*WEAK, *STRONG)
Install = Callable[..., ModuleType]

# Code of a process with a TensorRT that reports no progress.
MACHINE = f"""
import os, signal, sys, time
sys.path.insert(0, "tests")
from pathlib import Path
from {install_tensorrt.__module__} import install_tensorrt
from edgeunet.runtime.gpu.engine import build_bundle_engine
trt = install_tensorrt("8.6.0")
"""


def plan_of(engine: BuiltEngine) -> Plan:
    plan = Plan.from_bytes(engine.path.read_bytes())
    assert plan is not None
    return plan


def ends(engine: BuiltEngine) -> dict[str, str]:
    """Type of each input and output."""
    return {tensor.name: tensor.dtype for tensor in plan_of(engine).tensors}


def build(bundle: Path, **options: Any) -> BuiltEngine:
    return build_bundle_engine(bundle, runtime="tensorrt", **options)


def refused(bundle: Path, **options: Any) -> str:
    """Message of the error of a build that leaves no engine behind."""
    with pytest.raises(EngineError) as error:
        build(bundle, **options)
    assert names(bundle / "engines") == []
    return str(error.value)
