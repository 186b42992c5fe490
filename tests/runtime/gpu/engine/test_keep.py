"""Which plans are kept, which are rebuilt and why, and that none is ever broken."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from types import ModuleType

import pytest

from edgeunet.errors import EngineError
from support.engine_builds import MACHINE, Install, build, plan_of
from support.small_bundle import names, start, write_bundle

STALL = """
def stall(step):
    print("building", flush=True)
    time.sleep(600)
trt.scenario.before_step = stall
build_bundle_engine(sys.argv[1])
"""
BUILD = "print(build_bundle_engine(sys.argv[1]).built)"


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    return write_bundle(tmp_path / "bundle")


def test_plan_of_another_version_does_not_fit(bundle: Path, install: Install) -> None:
    install("8.6.0")
    old = build(bundle)
    install("10.3.0")
    new = build(bundle)
    assert new.built and new.path != old.path
    assert new.reason == f"{old.path.name} has version 8.6.0; expected 10.3.0"
    assert old.path.is_file()


def test_plan_of_another_card_does_not_fit(bundle: Path, install: Install) -> None:
    install("10.16.1")
    old = build(bundle)
    install("10.16.1", name="NVIDIA L4", capability=(8, 9))
    new = build(bundle)
    assert new.path.name == "nvidia-l4-sm89-trt10.16.1.11-fp16.engine"
    assert new.reason == f"{old.path.name} has gpu Orin; expected NVIDIA L4"


def test_plan_of_another_precision_is_not_the_reason(bundle: Path, install: Install) -> None:
    install("10.3.0")
    build(bundle, precision="fp32")
    assert build(bundle).reason == "there is none yet"


def test_renamed_plan_is_ignored(bundle: Path, install: Install) -> None:
    install("10.3.0")
    plan = build(bundle).path
    for path in (plan, plan.with_suffix(".json")):
        path.rename(path.with_stem("mine"))
    assert build(bundle).reason == "there is none yet"


@pytest.mark.parametrize(
    ("field", "value", "reason"),
    [
        ("version", "10.2.0", "NAME has version 10.2.0; expected 10.3.0"),
        ("gpu", "Xavier", "NAME has gpu Xavier; expected Orin"),
        ("onnx_sha256", "0" * 64, "the graph has changed since NAME was built"),
    ],
)
def test_plan_whose_sidecar_does_not_fit_is_rebuilt(
    field: str, value: str, reason: str, bundle: Path, install: Install
) -> None:
    install("10.3.0")
    card = build(bundle).path.with_suffix(".json")
    content = json.loads(card.read_text())
    content["request"][field] = value
    card.write_text(json.dumps(content))
    engine = build(bundle)
    wanted = reason.replace("NAME", engine.path.name)
    assert (engine.built, engine.reason) == (True, wanted)


def test_truncated_plan_is_rebuilt(bundle: Path, trt: ModuleType) -> None:
    plan = build(bundle).path
    plan.write_bytes(plan.read_bytes()[:100])
    engine = build(bundle)
    assert engine.built and "its sidecar says" in engine.reason
    assert plan_of(engine).version == trt.__version__


def test_killed_build_leaves_no_broken_engine(bundle: Path, install: Install) -> None:
    process = start(MACHINE + STALL, bundle)
    assert process.stdout is not None
    assert process.stdout.readline() == "building\n"
    process.kill()
    process.communicate(timeout=60)
    assert names(bundle / "engines") == []
    install("8.6.0")
    assert build(bundle).reason == "there is none yet"


@pytest.mark.usefixtures("cache_folder")
def test_only_one_of_two_processes_builds(bundle: Path) -> None:
    processes = [start(MACHINE + BUILD, bundle) for _ in range(2)]
    said = [process.communicate(timeout=120) for process in processes]
    assert sorted(out for out, _ in said) == ["False\n", "True\n"], said


def test_read_only_folder_keeps_what_fits_and_refuses_a_build(
    bundle: Path, trt: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = build(bundle).path

    def refuse(*_: object) -> None:
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr("edgeunet.runtime.gpu.engine.keep.write_bytes", refuse)
    assert not build(bundle).built
    shutil.copy(plan, plan.with_suffix(".before"))
    with pytest.raises(EngineError, match=r"engines cannot be written: .*Read-only.*Copy the bund"):
        build(bundle, force=True)
    assert plan.read_bytes() == plan.with_suffix(".before").read_bytes()
