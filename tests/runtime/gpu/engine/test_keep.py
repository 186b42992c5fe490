"""Which plans are kept, which are rebuilt and why, and that none is ever broken."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from edgeunet.bundle.bundle import open_bundle
from edgeunet.bundle.engines import EngineCard, list_engines, read_card
from edgeunet.bundle.signing import NOT_OURS
from edgeunet.errors import EngineError
from edgeunet.files import sha256
from edgeunet.runtime.gpu.cuda import CudaDevice
from edgeunet.runtime.gpu.engine import load_toolkit
from edgeunet.runtime.gpu.engine.execution import LoadedEngine
from edgeunet.runtime.gpu.engine.keep import note_agreement
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


# Engines that this machine did not build


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """A function that makes this another machine: one with another key."""

    def move() -> None:
        monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "another" / "state"))

    return move


def test_engine_of_another_machine_is_built_again(
    bundle: Path, trt: ModuleType, elsewhere: Callable[[], None]
) -> None:
    first = build(bundle)
    elsewhere()
    (listed,) = list_engines(open_bundle(bundle))
    assert listed.problem is not None and "was not built on this machine" in listed.problem
    assert build(bundle, trust_engines=True).reason == "it fits graph, version and targets"
    second = build(bundle)
    assert second.built and second.path == first.path
    assert second.reason == f"{first.path.name} {NOT_OURS}"
    assert not build(bundle).built
    assert [each.problem for each in list_engines(open_bundle(bundle))] == [None]


def forge(plan: Path, *, other: EngineCard | None = None) -> None:
    """Put other code in the place of a plan, with a sidecar that fits."""
    plan.write_bytes(b"evil code")
    path = plan.with_suffix(".json")
    card = json.loads(path.read_text())
    card["plan_sha256"] = sha256(plan)
    card["plan_bytes"] = plan.stat().st_size
    if other is not None:
        card["signature"] = other.signature
    path.write_text(json.dumps(card))


@pytest.mark.parametrize("signature", ["its own", "another engine's", "none", "garbage"])
def test_forged_engine_is_never_used(bundle: Path, install: Install, signature: str) -> None:
    install("10.3.0")
    engine, other = build(bundle), build(bundle, precision="fp32")
    forge(engine.path, other=other.card if signature == "another engine's" else None)
    if signature in ("none", "garbage"):
        path = engine.path.with_suffix(".json")
        card = json.loads(path.read_text())
        card["signature"] = "" if signature == "none" else "\u0661g" * 32
        path.write_text(json.dumps(card))
    again = build(bundle)
    assert again.built and again.reason.endswith(NOT_OURS)
    assert engine.path.read_bytes() != b"evil code"


def test_plan_that_changes_before_it_is_loaded_is_refused(bundle: Path, install: Install) -> None:
    trt = install("10.3.0")
    engine = build(bundle)
    engine.path.write_bytes(b"evil code")
    seen: list[Any] = []
    trt.Runtime.deserialize_cuda_engine = lambda self, content: seen.append(content)
    load = partial(LoadedEngine, load_toolkit("tensorrt"), engine.path)
    with CudaDevice() as device:
        with pytest.raises(EngineError, match="has changed since it was checked"):
            load(device, sha256=engine.card.plan_sha256)
        engine.path.unlink()
        with pytest.raises(EngineError, match="cannot be read: "):
            load(device, sha256=engine.card.plan_sha256)
    assert seen == []


def test_folder_of_engines_that_is_a_link_is_refused(
    bundle: Path, install: Install, tmp_path: Path
) -> None:
    install("10.3.0")
    (tmp_path / "outside").mkdir()
    (bundle / "engines").symlink_to(tmp_path / "outside")
    for use in (lambda: build(bundle), lambda: list_engines(open_bundle(bundle))):
        with pytest.raises(EngineError, match=r"engines is a link; expected a folder\. Refused"):
            use()
    assert list((tmp_path / "outside").iterdir()) == []


def test_lock_that_is_a_link_is_refused(bundle: Path, install: Install, tmp_path: Path) -> None:
    install("10.3.0")
    target = tmp_path / "precious"
    target.write_text("content")
    (bundle / "engines").mkdir()
    (bundle / "engines" / ".orin-sm87-trt10.3.0-fp16.engine.lock").symlink_to(target)
    with pytest.raises(EngineError, match=r"\.lock is a link\. Refused"):
        build(bundle)
    assert target.read_text() == "content"


def test_machine_that_cannot_keep_a_key_says_so_before_it_builds(
    bundle: Path, install: Install, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trt = install("10.3.0")
    (tmp_path / "state").write_text("a file")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    trt.scenario.before_step = lambda step: pytest.fail("it was built")
    with pytest.raises(EngineError, match="the key that signs engines cannot be written"):
        build(bundle)
    trt.scenario.before_step = lambda step: None
    assert build(bundle, trust_engines=True).card.signature == ""
    assert not build(bundle, trust_engines=True).built


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


# What was found when a plan ran


def test_agreement_is_noted_and_signed(bundle: Path, trt: ModuleType) -> None:
    engine = build(bundle)
    told: list[str] = []
    noted = note_agreement(engine, 0.75, fp16_head=0.5, report=told.append)
    assert (noted.card.agreement, noted.card.fp16_head_agreement) == (0.75, 0.5)
    assert (told, build(bundle).card) == ([], noted.card)
    assert read_card(engine.path).is_ours


def test_agreement_of_a_plan_that_was_built_again_meanwhile_is_not_noted(
    bundle: Path, trt: ModuleType
) -> None:
    engine, again = build(bundle), build(bundle, fp32_head=True)
    assert again.reason == "its head is to run in FP32"
    note_agreement(engine, 0.75, fp16_head=None, report=pytest.fail)
    assert read_card(engine.path) == again.card


def test_sidecar_that_cannot_be_written_is_told(
    bundle: Path, trt: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = build(bundle)
    told: list[str] = []

    def refuse(*_: object) -> None:
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr("edgeunet.runtime.gpu.engine.keep.write_json", refuse)
    noted = note_agreement(engine, 0.75, fp16_head=None, report=told.append)
    assert noted.card.agreement == 0.75 and read_card(engine.path) == engine.card
    (step,) = told
    assert step.startswith(f"agreement of {engine.path.name} not noted, the next start checks it")
