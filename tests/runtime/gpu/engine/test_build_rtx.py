"""Engines beside a bundle: built once, kept while they fit, never half-written."""

from __future__ import annotations

import json
import os
import re
import shutil
import sys
import threading
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from edgeunet.bundle.bundle import open_bundle
from edgeunet.bundle.engines import list_engines
from edgeunet.bundle.manifest import flavour_file
from edgeunet.errors import (
    BundleError,
    EngineError,
    MissingDependencyError,
    UnknownNameError,
    UsageError,
)
from edgeunet.files import locked, sha256
from edgeunet.runtime.gpu.engine import BuiltEngine, build_bundle_engine, load_toolkit
from support.commands import call, fails
from support.media import write_png
from support.small_bundle import names, start, write_bundle

pytest.importorskip("tensorrt_rtx_bindings", reason="TensorRT-RTX is not installed")


build_rtx = partial(build_bundle_engine, runtime="rtx")
RTX = ("--runtime", "rtx")


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    return write_bundle(tmp_path / "bundle")


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, BuiltEngine]:
    """A bundle with an engine. Do not change it: copy it."""
    root = write_bundle(tmp_path_factory.mktemp("built") / "bundle")
    return root, build_rtx(root)


@pytest.fixture
def standing(built: tuple[Path, BuiltEngine], tmp_path: Path) -> tuple[Path, Path]:
    """(bundle, plan): a copy to be damaged."""
    root, engine = built
    copy = Path(shutil.copytree(root, tmp_path / "copy"))
    return copy, copy / "engines" / engine.path.name


# What is written


def test_plan_and_sidecar_say_what_they_are(built: tuple[Path, BuiltEngine]) -> None:
    root, engine = built
    version = load_toolkit("rtx").version
    stem = f"sm86-sm89-sm120-rtx{version}-fp16"
    assert names(root / "engines") == [f"{stem}.engine", f"{stem}.json"]
    assert engine.path == root / "engines" / f"{stem}.engine"
    assert (engine.built, engine.reason) == (True, "there is none yet")
    card = json.loads(engine.path.with_suffix(".json").read_text())
    graph = root / flavour_file("fp16")
    assert re.fullmatch(r"[0-9a-f]{64}", card.pop("signature"))
    assert card == {
        "request": {
            "runtime": "rtx",
            "version": version,
            "gpu": None,
            "targets": ["sm86", "sm89", "sm120"],
            "precision": "fp16",
            "flavour": "fp16",
            "part": None,
            "max_batch": 4,
            "dla": None,
            "onnx_sha256": sha256(graph),
        },
        "plan_sha256": sha256(engine.path),
        "plan_bytes": engine.path.stat().st_size,
        "onnx_bytes": graph.stat().st_size,
        "fallback": [],
        "changes": {"all_tactics": False, "fp16_layers": [], "fp32_layers": []},
        "agreement": None,
        "fp16_head_agreement": None,
        "card_version": 4,
    }


def test_targets_and_precision_have_engines_of_their_own(standing: tuple[Path, Path]) -> None:
    root, plan = standing
    engine = build_rtx(root, precision="fp32", targets=["sm89", "sm75", "sm89"])
    assert engine.built
    assert engine.card.request.targets == ("sm75", "sm89")
    assert engine.path.name.startswith("sm75-sm89-rtx")
    assert plan.is_file() and len(list_engines(open_bundle(root))) == 2


# Kept or built again


def test_an_engine_that_fits_is_kept(standing: tuple[Path, Path]) -> None:
    root, plan = standing
    before = plan.stat().st_mtime_ns
    engine = build_rtx(root)
    assert (engine.built, engine.reason) == (False, "it fits graph, version and targets")
    assert plan.stat().st_mtime_ns == before


def test_keeping_waits_for_no_lock(standing: tuple[Path, Path]) -> None:
    root, plan = standing
    with locked(plan):
        assert not build_rtx(root, report=pytest.fail).built


def test_force_builds_again(standing: tuple[Path, Path]) -> None:
    root, plan = standing
    before = plan.stat().st_ino
    engine = build_rtx(root, force=True)
    assert (engine.built, engine.reason) == (True, "--force was given")
    assert plan.stat().st_ino != before


def tamper(root: Path, plan: Path) -> None:
    content = bytearray(plan.read_bytes())
    content[len(content) // 2] ^= 1
    plan.write_bytes(content)


def lose_sidecar(root: Path, plan: Path) -> None:
    plan.with_suffix(".json").unlink()


def lose_plan(root: Path, plan: Path) -> None:
    plan.unlink()


def break_sidecar(root: Path, plan: Path) -> None:
    plan.with_suffix(".json").write_text('{"card_version": 3')


def age_sidecar(root: Path, plan: Path) -> None:
    edit(plan, card_version=0)


def misname_sidecar(root: Path, plan: Path) -> None:
    edit(plan, plan_bytes="many")


def other_version(root: Path, plan: Path) -> None:
    card = json.loads(plan.with_suffix(".json").read_text())
    edit(plan, request={**card["request"], "version": "1.0"})


def other_graph(root: Path, plan: Path) -> None:
    write_bundle(root, weight=2.0)


def other_batch(root: Path, plan: Path) -> None:
    write_bundle(root, max_batch=8)


def edit(plan: Path, **values: Any) -> None:
    card = json.loads(plan.with_suffix(".json").read_text())
    plan.with_suffix(".json").write_text(json.dumps({**card, **values}))


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (tamper, r"\.engine has SHA-256 .*…, its sidecar says"),
        (lose_sidecar, r"\.json is missing"),
        (lose_plan, r"\.engine is missing"),
        (break_sidecar, r"\.json cannot be read"),
        (age_sidecar, r"\.json has card version 0; this edgeunet reads 4"),
        (misname_sidecar, r"\.json is damaged: \$\.plan_bytes: expected int, got 'many'"),
        (other_version, "version 1.0; expected 1.*"),
        (other_graph, "the graph has changed since"),
        (other_batch, "max_batch 4; expected 8"),
    ],
)
def test_one_that_does_not_fit_is_built_again_and_why(
    change: Any, reason: str, standing: tuple[Path, Path]
) -> None:
    root, plan = standing
    change(root, plan)
    engine = build_rtx(root)
    assert engine.built
    assert re.search(reason, engine.reason), engine.reason
    assert sha256(plan) == engine.card.plan_sha256
    assert not build_rtx(root).built


# One at a time, whole or not at all


BUILD = """
import sys
from edgeunet.runtime.gpu.engine import build_bundle_engine
print(build_bundle_engine(sys.argv[1], runtime="rtx").built)
"""
STALL = """
import sys, time
from edgeunet.runtime.gpu.engine import build_bundle_engine
def stall(done):
    print("building", flush=True)
    time.sleep(600)
build_bundle_engine(sys.argv[1], runtime="rtx", progress=stall)
"""


def test_of_two_processes_one_builds(bundle: Path) -> None:
    processes = [start(BUILD, bundle) for _ in range(2)]
    said = [process.communicate(timeout=300) for process in processes]
    assert sorted(out for out, _ in said) == ["False\n", "True\n"], said


def test_who_finds_the_lock_taken_says_so_and_waits(bundle: Path) -> None:
    folder = bundle / "engines"
    folder.mkdir()
    plan = folder / f"sm86-sm89-sm120-rtx{load_toolkit('rtx').version}-fp16.engine"
    waiting = threading.Event()
    done: list[BuiltEngine] = []

    def report(step: str) -> None:
        if step == "another process builds this engine; waiting for it":
            waiting.set()

    thread = threading.Thread(target=lambda: done.append(build_rtx(bundle, report=report)))
    with locked(plan):
        thread.start()
        assert waiting.wait(timeout=300)
        assert names(folder) == []
    thread.join(timeout=300)
    assert [engine.built for engine in done] == [True]
    assert plan.is_file()


def test_a_killed_build_leaves_nothing_and_no_lock(bundle: Path) -> None:
    process = start(STALL, bundle)
    assert process.stdout is not None
    assert process.stdout.readline() == "building\n"
    process.kill()
    process.communicate(timeout=60)
    assert names(bundle / "engines") == []
    assert build_rtx(bundle).reason == "there is none yet"


def test_a_stop_between_plan_and_sidecar_is_noticed(
    bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("edgeunet.runtime.gpu.engine.keep.write_json", stop)
        with pytest.raises(KeyboardInterrupt):
            build_rtx(bundle)
    (engine,) = list_engines(open_bundle(bundle))
    assert engine.problem is not None and engine.problem.endswith(".json is missing")
    assert build_rtx(bundle).reason == engine.problem


# Bad input


def test_no_bundle(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="is not a directory"):
        build_rtx(tmp_path / "nowhere")
    assert "is not a bundle" in fails(1, "build", tmp_path)


def test_a_damaged_bundle_gets_no_engine(bundle: Path) -> None:
    (bundle / flavour_file("fp16")).write_bytes(b"damaged")
    with pytest.raises(BundleError, match="SHA-256"):
        build_rtx(bundle)
    assert not (bundle / "engines").exists()


def test_a_precision_that_the_bundle_does_not_hold(bundle: Path) -> None:
    assert "engines compute in FP32, FP16 and INT8, not in BF16" in fails(
        2, "build", bundle, *RTX, "--precision", "bf16"
    )
    message = fails(2, "build", bundle, *RTX, "--precision", "int8")
    assert "expected a bundle with int8" in message
    assert "exported for fp16 and holds fp32, fp16." in message
    assert not (bundle / "engines").exists()


def test_unknown_target_and_runtime_name_the_known_ones(bundle: Path) -> None:
    message = fails(2, "build", bundle, *RTX, "--targets", "sm86,SM99")
    assert "unknown target of TensorRT-RTX 'sm99'. Did you mean 'sm89'? Known: " in message
    assert {"sm75", "sm86", "sm89", "sm120"} <= set(re.findall(r"sm\d+", message))
    with pytest.raises(UnknownNameError, match=r"unknown runtime 'tpu'\. Known: rtx, tensorrt\."):
        build_bundle_engine(bundle, runtime="tpu")
    with pytest.raises(UsageError, match="no target was given"):
        build_rtx(bundle, targets=[])


def test_missing_tensorrt_names_the_extra(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tensorrt_rtx_bindings", None)
    with pytest.raises(MissingDependencyError, match=r"pip install '\.\[rtx\]'"):
        build_rtx(bundle)


def test_tensorrt_that_does_not_load_says_why(
    bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "tensorrt_rtx_bindings.py").write_text("raise OSError('libfoo.so: cannot open')")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "tensorrt_rtx_bindings", raising=False)
    with pytest.raises(EngineError, match=r"cannot be loaded: libfoo\.so"):
        build_rtx(bundle)


def test_where_nothing_can_be_written(bundle: Path) -> None:
    (bundle / "engines").write_text("a file")
    assert re.search(
        r"engines cannot be written: .*Copy the bundle", fails(1, "build", bundle, *RTX)
    )


@pytest.mark.skipif(
    not hasattr(os, "geteuid") or os.geteuid() == 0, reason="permissions do not bind root"
)
def test_a_read_only_bundle(bundle: Path) -> None:
    bundle.chmod(0o555)
    try:
        assert "engines cannot be written" in fails(1, "build", bundle, *RTX)
    finally:
        bundle.chmod(0o755)


# The command line


def test_inspect_lists_engines(standing: tuple[Path, Path]) -> None:
    root, plan = standing
    line = rf"engine +{re.escape(plan.name)}: fp16 for sm86, sm89, sm120, batch 1 to 4 \("
    assert re.search(line, call("inspect", root).stdout)
    (listed,) = json.loads(call("inspect", root, "--json").stdout)["engines"]
    assert (listed["file"], listed["problem"]) == (plan.name, None)
    assert listed["card"]["request"]["precision"] == "fp16"
    tamper(root, plan)
    assert re.search(r"not usable, .*SHA-256.*edgeunet build", call("inspect", root).stdout)


def test_inspect_says_that_an_engine_is_of_another_graph(standing: tuple[Path, Path]) -> None:
    root, plan = standing
    other_graph(root, plan)
    (engine,) = list_engines(open_bundle(root))
    assert engine.problem == "it was built from another graph"


def test_a_bundle_with_engines_runs(fp32_bundle: Path, tmp_path: Path) -> None:
    root = Path(shutil.copytree(fp32_bundle, tmp_path / "bundle"))
    build_rtx(root)
    source = tmp_path / "frame.png"
    write_png(source, open_bundle(root).golden().frames[0])
    result = call("run", root, source, "--json")
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["frames"] == 1
