"""`edgeunet build` with TensorRT."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from types import ModuleType

import pytest

from edgeunet.runtime.gpu.engine import default_toolkit
from support.commands import call, fails, succeeds
from support.engine_builds import Install
from support.small_bundle import write_bundle


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    return write_bundle(tmp_path / "bundle")


def test_default_runtime_is_that_of_the_machine_and_reported(
    bundle: Path, install: Install, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("platform.machine", lambda: "x86_64")
    install("10.3.0")
    assert "runtime tensorrt" in succeeds("build", bundle).stderr
    sys.modules["tensorrt"] = None  # type: ignore[assignment]
    assert default_toolkit() == "rtx"
    monkeypatch.setattr("platform.machine", lambda: "aarch64")
    assert "JetPack" in fails(1, "build", bundle)


def test_build_of_a_gated_bundle_makes_both_parts(tmp_path: Path, trt: ModuleType) -> None:
    root = write_bundle(tmp_path / "gated", gated=True)
    made = succeeds("build", root, "--runtime", "tensorrt", "--json")
    said = json.loads(made.stdout)
    assert said["runtime"] == "tensorrt"
    parts = [engine["card"]["request"]["part"] for engine in said["engines"]]
    assert parts == ["encoder", "decoder"]
    again = succeeds("build", root, "--runtime", "tensorrt").stdout
    kept, remark = again.splitlines()[::2], again.splitlines()[1::2]
    assert [line.split()[0] for line in kept] == ["kept", "kept"]
    assert remark == ["  100.00% of the golden pixels agree with PyTorch"] * 2
    inspected = call("inspect", root).stdout
    version = re.escape(trt.__version__)
    assert re.search(
        rf"orin-sm87-trt{version}-fp16-encoder\.engine: fp16 encoder for Orin \(sm87\), "
        r"batch 1 to 4 \(",
        inspected,
    )


def test_build_lists_layers_that_fall_back_to_the_gpu(bundle: Path, dla: ModuleType) -> None:
    dla.scenario.dla_refuses = frozenset({"Conv"})
    made = succeeds("build", bundle, "--runtime", "tensorrt", "--dla", 0)
    assert "DLA 0 cannot run these layers (1); the GPU runs them:\n  conv\n" in made.stdout
    assert "Orin (sm87), DLA 0, batch 4 (" in call("inspect", bundle).stdout
    dla.scenario.dla_refuses = frozenset()
    again = succeeds("build", bundle, "--runtime", "tensorrt", "--dla", 0, "--force")
    assert "DLA 0 can run all layers" in again.stdout


def test_options_of_one_runtime_are_refused_by_the_other(bundle: Path, install: Install) -> None:
    install("10.3.0")
    message = fails(2, "build", bundle, "--runtime", "tensorrt", "--targets", "sm89")
    assert "Omit --targets, or pass --runtime rtx" in message
    pytest.importorskip("tensorrt_rtx_bindings", reason="TensorRT-RTX is not installed")
    for option in ("--device", "--dla", "--workspace"):
        message = fails(2, "build", bundle, "--runtime", "rtx", option, 1)
        assert "are for --runtime tensorrt" in message


def test_engine_of_another_machine_is_kept_only_if_it_is_trusted(
    bundle: Path, install: Install, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install("10.3.0")
    succeeds("build", bundle, "--runtime", "tensorrt")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "another"))
    listed = call("inspect", bundle).stdout
    assert "not usable, it was not built on this machine, and it is code" in listed
    trusted = succeeds("build", bundle, "--runtime", "tensorrt", "--trust-engines")
    assert trusted.stdout.startswith("kept ")
    again = succeeds("build", bundle, "--runtime", "tensorrt")
    assert again.stdout.startswith("wrote ")
    assert "was not built on this machine" in again.stderr
