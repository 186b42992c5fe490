"""Finding TensorRT and its version."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from edgeunet.errors import EngineError, MissingDependencyError
from edgeunet.runtime.gpu.engine import load_toolkit
from support.engine_builds import Install, build
from support.small_bundle import write_bundle


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    return write_bundle(tmp_path / "bundle")


def test_missing_tensorrt_names_the_extra_and_jetpack(bundle: Path, install: Install) -> None:
    install("10.3.0")
    sys.modules["tensorrt"] = None  # type: ignore[assignment]
    with pytest.raises(MissingDependencyError, match=r"'\.\[trt\]'.*Jetson.*site-packages"):
        build(bundle)


def test_missing_libraries_come_with_advice(
    bundle: Path, tmp_path: Path, install: Install, monkeypatch: pytest.MonkeyPatch
) -> None:
    install("10.3.0")
    del sys.modules["tensorrt"]
    (tmp_path / "tensorrt.py").write_text("raise ImportError('libnvinfer.so.10: cannot open')")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(EngineError, match=r"libnvinfer\.so\.10.*\.\[trt\].*LD_LIBRARY_PATH"):
        build(bundle)


def test_too_old_a_tensorrt_is_refused(bundle: Path, install: Install) -> None:
    install("8.6.0").__version__ = "8.5.3.1"  # type: ignore[attr-defined]
    with pytest.raises(
        EngineError, match=r"TensorRT 8\.5\.3\.1 is too old; expected 8\.6 or newer"
    ):
        build(bundle)


@pytest.mark.parametrize(
    ("version", "flavour"),
    [("10.11.0.33", "fp32"), ("10.12.0.36", "fp16"), ("10.9", "fp32"), ("12.0", "fp16")],
)
def test_strong_typing_begins_with_10_12(version: str, flavour: str, install: Install) -> None:
    install("10.16.1").__version__ = version  # type: ignore[attr-defined]
    assert load_toolkit("tensorrt").flavours["fp16"] == flavour
