"""The timing cache: used, damaged, rejected, not writable."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeunet.bundle.signing import key_path
from edgeunet.runtime.gpu.engine.caches import (
    attach_timing_cache,
    keep_timing_cache,
    read_cache,
    write_cache,
)
from support import fake_tensorrt
from support.engine_builds import build
from support.small_bundle import names, write_bundle


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    return write_bundle(tmp_path / "bundle")


def layers_known(configured: list[tuple[Any, Any]], trt: ModuleType) -> list[set[str]]:
    """Filled with what the cache holds when a build begins."""
    seen: list[set[str]] = []

    def look(step: int) -> None:
        if step == 0:
            content = bytes(configured[-1][1].get_timing_cache().serialize())
            seen.append({name for name in ("conv",) if name.encode() in content})

    trt.scenario.before_step = look
    return seen


def test_next_build_knows_the_timings(
    bundle: Path, tmp_path: Path, trt: ModuleType, configured: list[tuple[Any, Any]]
) -> None:
    known = layers_known(configured, trt)
    build(bundle)
    other = write_bundle(tmp_path / "other", weight=2.0)
    build(other)
    assert known == [set(), {"conv"}]
    cache = tmp_path / "cache" / "edgeunet"
    assert names(cache) == [f"timing-orin-sm87-trt{trt.__version__}.cache"]


def test_damaged_timing_cache_is_dropped_with_a_message(
    bundle: Path, tmp_path: Path, trt: ModuleType, configured: list[tuple[Any, Any]]
) -> None:
    build(bundle)
    (cache,) = (tmp_path / "cache" / "edgeunet").iterdir()
    whole = cache.read_bytes()
    cache.write_bytes(whole[:-3])
    known, told = layers_known(configured, trt), list[str]()
    assert build(bundle, force=True, report=told.append).built
    assert known == [set()]
    assert f"timing cache {cache} dropped: it is damaged" in told
    assert cache.read_bytes() == whole


@given(data=st.data())
def test_tensorrt_never_gets_a_damaged_timing_cache(
    data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("cache") / "timing.cache"
    trt = fake_tensorrt.make("10.3.0")
    config = trt.Builder(trt.Logger()).create_builder_config()
    attach_timing_cache(config, path, pytest.fail)
    keep_timing_cache(config, path, pytest.fail)
    content = bytearray(path.read_bytes())
    index = data.draw(st.integers(0, len(content) - 1))
    if data.draw(st.booleans()):
        content[index] ^= data.draw(st.integers(1, 255))
    else:
        del content[index:]
    path.write_bytes(content)
    told: list[str] = []
    attach_timing_cache(config, path, told.append)
    assert told == [f"timing cache {path} dropped: it is damaged"]


def test_timing_cache_of_another_machine_is_dropped(
    bundle: Path,
    tmp_path: Path,
    trt: ModuleType,
    configured: list[tuple[Any, Any]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    build(bundle)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "another"))
    known, told = layers_known(configured, trt), list[str]()
    assert build(bundle, force=True, report=told.append).built
    assert known == [set()]
    assert any("dropped: it was not built on this machine" in step for step in told)


def test_cache_is_read_by_whom_wrote_it_or_trusts_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, told = tmp_path / "x.cache", list[str]()
    write_cache(path, b"kernels")
    assert read_cache(path, "cache", pytest.fail) == b"kernels"
    shutil.copy(path, tmp_path / "y.cache")
    assert read_cache(tmp_path / "y.cache", "cache", told.append) == b""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "another"))
    assert read_cache(path, "cache", told.append) == b""
    assert len(told) == 2 and all("it was not built on this machine" in step for step in told)
    assert read_cache(path, "cache", pytest.fail, trust=True) == b"kernels"
    path.write_bytes(path.read_bytes()[:-1])
    assert read_cache(path, "cache", told.append, trust=True) == b""
    assert told[-1] == f"cache {path} dropped: it is damaged"


def test_cache_without_a_usable_key_is_not_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    path, told = tmp_path / "x.cache", list[str]()
    write_cache(path, b"kernels")
    key_path().chmod(0o644)
    assert read_cache(path, "cache", told.append) == b""
    assert len(told) == 1 and "cache not used: " in told[0] and "only you can read" in told[0]


def test_timing_cache_that_tensorrt_rejects_is_dropped_with_a_message(
    bundle: Path, trt: ModuleType, configured: list[tuple[Any, Any]]
) -> None:
    """It carries a mark of its own of the card it is for."""
    build(bundle)
    trt.scenario.capability = "sm89"
    known, told = layers_known(configured, trt), list[str]()
    assert build(bundle, force=True, report=told.append).built
    assert known == [set()]
    assert any(re.search("dropped: TensorRT rejected it", step) for step in told)


def test_engine_is_built_even_if_the_timing_cache_cannot_be_saved(
    bundle: Path, tmp_path: Path, trt: ModuleType
) -> None:
    (tmp_path / "cache").write_text("a file")
    told: list[str] = []
    assert build(bundle, report=told.append).built
    assert any(step.startswith("timing cache not saved") for step in told)


def test_relative_cache_folder_is_ignored(
    bundle: Path, tmp_path: Path, trt: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", "cache")
    monkeypatch.setattr(Path, "home", lambda: tmp_path / "home")
    build(bundle)
    assert len(names(tmp_path / "home" / ".cache" / "edgeunet")) == 1
