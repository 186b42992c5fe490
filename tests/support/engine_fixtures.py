"""Fixtures: a TensorRT of each version and a GPU, neither of which is there."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from edgeunet.runtime.gpu.engine.configure import make_config
from support.engine_builds import VERSIONS, Install
from support.tensorrt_machine import install_tensorrt, restored_modules


@pytest.fixture
def cache_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Folder of timing caches, instead of the user's."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def install(cache_folder: Path) -> Iterator[Install]:
    """Function that installs a version of TensorRT and a GPU in this process."""
    with restored_modules():
        yield install_tensorrt


@pytest.fixture(params=VERSIONS)
def trt(request: pytest.FixtureRequest, install: Install) -> ModuleType:
    """Each of the versions."""
    return install(request.param)


@pytest.fixture
def configured(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, Any]]:
    """(network, config) of each build."""
    seen: list[tuple[Any, Any]] = []

    def spy(toolkit: Any, builder: Any, network: Any, *rest: Any) -> Any:
        config = make_config(toolkit, builder, network, *rest)
        seen.append((network, config))
        return config

    monkeypatch.setattr("edgeunet.runtime.gpu.engine.plan.make_config", spy)
    return seen


@pytest.fixture
def dla(trt: ModuleType) -> ModuleType:
    """A machine with two DLA cores, which take no pooling."""
    trt.scenario.dla_cores = 2
    trt.scenario.dla_refuses = frozenset({"GlobalAveragePool", "flatten"})
    return trt
