"""Engines of TensorRT itself, on the stand-ins for three of its versions and for the GPU."""

from __future__ import annotations

import json
import re
import shutil
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeunet.bundle.bundle import open_bundle
from edgeunet.bundle.engines import list_engines, slug
from edgeunet.bundle.manifest import flavour_file, part_file
from edgeunet.errors import BackendError, EngineError, MissingDependencyError, UsageError
from edgeunet.files import sha256
from edgeunet.runtime.gpu.engine import (
    BuiltEngine,
    build_bundle_engine,
    default_toolkit,
    engine_parts,
    keep,
    load_toolkit,
    progress,
)
from edgeunet.runtime.gpu.engine import plan as compile
from edgeunet.runtime.gpu.engine.caches import attach_timing_cache, keep_timing_cache
from edgeunet.runtime.gpu.engine.log import last_words
from support import fake_tensorrt
from support.commands import call, fails, succeeds
from support.fake_tensorrt import OUT_OF_MEMORY, ParserFault
from support.fake_tensorrt.plan import Plan
from support.small_bundle import names, start, write_bundle
from support.tensorrt_machine import install_tensorrt, restored_modules

WEAK, STRONG = ("8.6.0", "10.3.0"), ("10.16.1", "11.4.0")
VERSIONS = (*WEAK, *STRONG)
Install = Callable[..., ModuleType]


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture
def install() -> Iterator[Install]:
    """Puts a version of TensorRT, and a GPU, into this process."""
    with restored_modules():
        yield install_tensorrt


@pytest.fixture(params=VERSIONS)
def trt(request: pytest.FixtureRequest, install: Install) -> ModuleType:
    """Each of the versions."""
    return install(request.param)


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    return write_bundle(tmp_path / "bundle")


@pytest.fixture
def int8_bundle(tmp_path: Path) -> Path:
    return write_bundle(tmp_path / "bundle", precision="int8")


@pytest.fixture
def configured(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, Any]]:
    """(network, config) of each build."""
    seen: list[tuple[Any, Any]] = []
    make_config = compile.make_config

    def spy(toolkit: Any, builder: Any, network: Any, request: Any) -> Any:
        config = make_config(toolkit, builder, network, request)
        seen.append((network, config))
        return config

    monkeypatch.setattr(compile, "make_config", spy)
    return seen


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
    with pytest.raises(EngineError) as error:
        build(bundle, **options)
    assert [name for name in names(bundle / "engines") if not name.startswith(".")] == []
    return str(error.value)


# What the builder is asked for


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8"])
def test_each_version_gets_the_graph_the_flags_and_the_types_that_it_wants(
    version: str, precision: Any, int8_bundle: Path, install: Install
) -> None:
    install(version)
    engine = build(int8_bundle, precision=precision)
    weak = version in WEAK
    flavour = {"fp32": "fp32", "fp16": "fp32" if weak else "fp16", "int8": "int8"}[precision]
    flavour += ".fp16" if precision == "int8" and not weak else ""
    graph = int8_bundle / flavour_file(flavour)  # type: ignore[arg-type]
    assert plan_of(engine).onnx == graph.read_bytes()
    assert engine.card.request.flavour == flavour
    assert engine.card.request.onnx_sha256 == sha256(graph)
    flags = {"fp32": (), "fp16": ("FP16",), "int8": ("FP16", "INT8")}[precision]
    shared = ("PROFILE_SHARING_0806",) if version == "8.6.0" else ()
    assert plan_of(engine).flags == (flags if weak else ()) + shared  # and no TF32
    if weak:
        wanted = "FLOAT" if precision == "fp32" else "HALF"
        assert ends(engine) == {"image": wanted, "logits": wanted}


@pytest.mark.parametrize("version", VERSIONS[1:])
def test_networks_are_typed_as_the_version_has_it(
    version: str, bundle: Path, install: Install, configured: list[tuple[Any, Any]]
) -> None:
    """That 8.6 gets EXPLICIT_BATCH shows in its parser, which refuses a network without."""
    flags = install(version).NetworkDefinitionCreationFlag.__members__
    build(bundle)
    ((network, _),) = configured
    given = {name for name, flag in flags.items() if network.get_flag(flag)}
    assert given == ({"STRONGLY_TYPED"} if version in STRONG else set())


def test_tactics_come_without_cublas_and_cudnn(
    bundle: Path, trt: ModuleType, configured: list[tuple[Any, Any]]
) -> None:
    build(bundle)
    ((_, config),) = configured
    sources = config.get_tactic_sources()
    on = {name for name, each in trt.TacticSource.__members__.items() if sources >> int(each) & 1}
    assert on == {"EDGE_MASK_CONVOLUTIONS", "JIT_CONVOLUTIONS"}


def test_the_profile_goes_from_1_to_the_largest_batch(bundle: Path, trt: ModuleType) -> None:
    (profile,) = plan_of(build(bundle)).profiles
    least, tuned, most = profile["image"]
    assert (least, tuned, most) == ((1, 3, 16, 16), (4, 3, 16, 16), (4, 3, 16, 16))


def test_plan_and_sidecar_say_card_and_version(bundle: Path, trt: ModuleType) -> None:
    engine = build(bundle)
    assert engine.path.name == f"orin-sm87-trt{trt.__version__}-fp16.engine"
    request = json.loads(engine.path.with_suffix(".json").read_text())["request"]
    assert (request["gpu"], request["targets"]) == ("Orin", ["sm87"])
    assert (request["version"], request["part"], request["dla"]) == (trt.__version__, None, None)
    again = build(bundle, workspace_mb=1)
    assert (again.built, again.path) == (False, engine.path)


def test_the_gpu_is_current_while_it_builds_and_let_go(bundle: Path, trt: ModuleType) -> None:
    driver: Any = sys.modules["pycuda.driver"]
    free: list[int] = []
    trt.scenario.before_step = lambda step: free.append(driver.mem_get_info()[0])
    build(bundle)
    assert free and driver.retained == 0


def test_cards_names_become_parts_of_file_names() -> None:
    assert slug("NVIDIA GeForce RTX 4090 (Laptop)") == "nvidia-geforce-rtx-4090-laptop"


@given(st.text())
def test_no_card_has_a_name_that_leaves_the_folder(name: str) -> None:
    assert re.fullmatch(r"([a-z0-9]+(-[a-z0-9]+)*)?", slug(name))


def test_parts_of_a_gated_bundle_have_engines_of_their_own(tmp_path: Path, trt: ModuleType) -> None:
    root = write_bundle(tmp_path / "gated", gated=True)
    encoder, decoder = (build(root, part=part) for part in ("encoder", "decoder"))
    assert encoder.path.name.endswith("-fp16-encoder.engine")
    assert set(ends(encoder)) == {"image", "presence", "feature"}
    assert set(ends(decoder)) == {"feature", "logits"}
    if trt.__version__ in WEAK:
        assert {*ends(encoder).values(), *ends(decoder).values()} == {"HALF"}
    request = decoder.card.request
    assert request.onnx_sha256 == sha256(root / part_file(request.flavour, "decoder"))
    assert [engine.problem for engine in list_engines(open_bundle(root))] == [None, None]


def test_parts_are_built_of_gated_bundles_that_are_tuned(
    bundle: Path, tmp_path: Path, trt: ModuleType
) -> None:
    gated = open_bundle(write_bundle(tmp_path / "gated", gated=True))
    assert engine_parts(gated, runtime="tensorrt") == ("encoder", "decoder")
    assert engine_parts(open_bundle(bundle), runtime="tensorrt") == (None,)
    with pytest.raises(UsageError, match="holds no decoder of its"):
        build(bundle, part="decoder")


# Memory


@pytest.mark.parametrize(
    ("gpu", "wanted"),
    [
        ({"capacity": 3 << 30}, 1536 << 20),
        ({"capacity": 2 << 30, "integrated": True}, 512 << 20),
        ({"capacity": 32 << 30, "integrated": True}, 1024 << 20),
    ],
)
def test_the_workspace_is_a_share_of_free_memory_and_told(
    gpu: Any, wanted: int, bundle: Path, install: Install, configured: list[tuple[Any, Any]]
) -> None:
    trt = install("10.3.0", **gpu)
    told: list[str] = []
    build(bundle, report=told.append)
    ((_, config),) = configured
    assert config.get_memory_pool_limit(trt.MemoryPoolType.WORKSPACE) == wanted
    free = gpu["capacity"] >> 20
    assert f"workspace {wanted >> 20} MB, of {free} MB of free memory" in told


def test_a_workspace_that_is_too_small_is_named(bundle: Path, trt: ModuleType) -> None:
    trt.scenario.needs_workspace = 2 << 20
    message = refused(bundle, workspace_mb=1)
    assert "Could not find any implementation for node" in message
    assert "A larger --workspace" in message
    assert succeeds("build", bundle, "--runtime", "tensorrt", "--workspace", 2)


def test_device_memory_that_runs_out_is_told_with_the_way_out(
    bundle: Path, trt: ModuleType
) -> None:
    trt.scenario.build_errors = OUT_OF_MEMORY
    message = refused(bundle)
    assert "cannot build" in message and "(out of memory)" in message
    assert "smaller --workspace" in message and "--max-batch" in message


# The times of tactics


def layers_known(configured: list[tuple[Any, Any]], trt: ModuleType) -> list[set[str]]:
    """Filled with what the cache holds when a build begins."""
    seen: list[set[str]] = []

    def look(step: int) -> None:
        if step == 0:
            content = bytes(configured[-1][1].get_timing_cache().serialize())
            seen.append({name for name in ("conv",) if name.encode() in content})

    trt.scenario.before_step = look
    return seen


def test_what_was_timed_once_is_known_to_the_next_build(
    bundle: Path, tmp_path: Path, trt: ModuleType, configured: list[tuple[Any, Any]]
) -> None:
    known = layers_known(configured, trt)
    build(bundle)
    other = write_bundle(tmp_path / "other", weight=2.0)
    build(other)
    assert known == [set(), {"conv"}]
    cache = tmp_path / "cache" / "edgeunet"
    assert names(cache) == [f"timing-orin-sm87-trt{trt.__version__}.cache"]


def test_a_damaged_timing_cache_is_dropped_and_why(
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
def test_no_damaged_byte_of_a_timing_cache_reaches_tensorrt(
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


def test_a_timing_cache_that_tensorrt_refuses_is_dropped_and_why(
    bundle: Path, trt: ModuleType, configured: list[tuple[Any, Any]]
) -> None:
    """It carries a mark of its own of the card it is for."""
    build(bundle)
    trt.scenario.capability = "sm89"
    known, told = layers_known(configured, trt), list[str]()
    assert build(bundle, force=True, report=told.append).built
    assert known == [set()]
    assert any(re.search("dropped: TensorRT refuses it", step) for step in told)


def test_where_no_timing_cache_can_be_kept_the_engine_is_built(
    bundle: Path, tmp_path: Path, trt: ModuleType
) -> None:
    (tmp_path / "cache").write_text("a file")
    told: list[str] = []
    assert build(bundle, report=told.append).built
    assert any(step.startswith("timing cache not kept") for step in told)


def test_a_cache_folder_that_is_no_full_path_is_ignored(
    bundle: Path, tmp_path: Path, trt: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", "cache")
    monkeypatch.setattr(Path, "home", lambda: tmp_path / "home")
    build(bundle)
    assert len(names(tmp_path / "home" / ".cache" / "edgeunet")) == 1


# Kept or built again


def test_a_plan_of_another_version_is_not_taken_and_why(bundle: Path, install: Install) -> None:
    install("8.6.0")
    old = build(bundle)
    install("10.3.0")
    new = build(bundle)
    assert new.built and new.path != old.path
    assert new.reason == f"{old.path.name} has version 8.6.0; 10.3.0 was wanted"
    assert old.path.is_file()


def test_a_plan_of_another_card_is_not_taken_and_why(bundle: Path, install: Install) -> None:
    install("10.16.1")
    old = build(bundle)
    install("10.16.1", name="NVIDIA L4", capability=(8, 9))
    new = build(bundle)
    assert new.path.name == "nvidia-l4-sm89-trt10.16.1.11-fp16.engine"
    assert new.reason == f"{old.path.name} has gpu Orin; NVIDIA L4 was wanted"


def test_a_plan_of_another_precision_is_no_reason(bundle: Path, install: Install) -> None:
    install("10.3.0")
    build(bundle, precision="fp32")
    assert build(bundle).reason == "there is none yet"


def test_a_plan_under_another_name_is_none(bundle: Path, install: Install) -> None:
    install("10.3.0")
    plan = build(bundle).path
    for path in (plan, plan.with_suffix(".json")):
        path.rename(path.with_stem("mine"))
    assert build(bundle).reason == "there is none yet"


@pytest.mark.parametrize(
    ("field", "value", "reason"),
    [
        ("version", "10.2.0", "NAME has version 10.2.0; 10.3.0 was wanted"),
        ("gpu", "Xavier", "NAME has gpu Xavier; Orin was wanted"),
        ("onnx_sha256", "0" * 64, "the graph has changed since NAME was built"),
    ],
)
def test_a_plan_whose_sidecar_tells_of_another_is_built_again(
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


def test_a_truncated_plan_is_built_again(bundle: Path, trt: ModuleType) -> None:
    plan = build(bundle).path
    plan.write_bytes(plan.read_bytes()[:100])
    engine = build(bundle)
    assert engine.built and "its sidecar says" in engine.reason
    assert plan_of(engine).version == trt.__version__


# DLA


@pytest.fixture
def dla(trt: ModuleType) -> ModuleType:
    """A machine with two DLA cores, which take no pooling."""
    trt.scenario.dla_cores = 2
    trt.scenario.dla_refuses = frozenset({"GlobalAveragePool", "flatten"})
    return trt


def test_what_the_dla_cannot_run_falls_back_and_is_listed(
    tmp_path: Path, dla: ModuleType, configured: list[tuple[Any, Any]]
) -> None:
    root = write_bundle(tmp_path / "gated", gated=True)
    told: list[str] = []
    engine = build(root, dla=1, report=told.append)
    assert engine.path.name.endswith("-fp16-dla1.engine")
    assert engine.fallback == ("pool", "flatten")
    ((_, config),) = configured
    assert (config.default_device_type, config.DLA_core) == (dla.DeviceType.DLA, 1)
    assert "GPU_FALLBACK" in plan_of(engine).flags
    kept = build(root, dla=1)
    assert not kept.built and kept.fallback == ("pool", "flatten")


def test_the_batch_of_a_dla_is_fixed_and_told(
    bundle: Path, dla: ModuleType, configured: list[tuple[Any, Any]]
) -> None:
    told: list[str] = []
    engine = build(bundle, dla=0, report=told.append)
    assert engine.fallback == ()
    (profile,) = plan_of(engine).profiles
    assert set(profile["image"]) == {(4, 3, 16, 16)}
    assert tuple(configured[0][0].get_input(0).shape) == (4, 3, 16, 16)
    assert engine.card.request.min_batch == 4
    assert "the DLA takes no dynamic shapes: batch 4 alone" in told


@pytest.mark.parametrize(("cores", "known"), [(0, "no DLA core"), (1, "1 DLA core")])
def test_a_dla_that_is_not_there_is_refused(
    cores: int, known: str, bundle: Path, trt: ModuleType
) -> None:
    trt.scenario.dla_cores = cores
    message = fails(2, "build", bundle, "--runtime", "tensorrt", "--dla", 1)
    assert f"there is no DLA core 1: TensorRT {trt.__version__} finds {known}" in message
    assert names(bundle / "engines") == []


def test_a_dla_beyond_the_last_is_refused_with_the_known(bundle: Path, dla: ModuleType) -> None:
    message = fails(2, "build", bundle, "--runtime", "tensorrt", "--dla", 2)
    assert "finds the DLA cores 0 to 1" in message


def test_a_dla_computes_no_fp32(bundle: Path, dla: ModuleType) -> None:
    message = fails(2, "build", bundle, "--runtime", "tensorrt", "--dla", 0, "--precision", "fp32")
    assert "the DLA computes in FP16 and INT8" in message


@pytest.mark.parametrize("version", VERSIONS)
def test_int8_on_a_dla_comes_with_a_word_of_warning_where_it_helps_little(
    version: str, int8_bundle: Path, install: Install
) -> None:
    install(version).scenario.dla_cores = 1
    told: list[str] = []
    build(int8_bundle, dla=0, report=told.append)
    assert any("takes no Q/DQ nodes" in step for step in told) == (version in WEAK)


# Signs of life, and an end before the end


def test_versions_that_tell_progress_have_a_bar(bundle: Path, install: Install) -> None:
    install("10.3.0")
    told: list[float] = []
    build(bundle, progress=told.append)
    assert told == sorted(told)
    assert 0 < told[0] < told[-1] == 1.0


def test_a_version_that_tells_nothing_has_a_heartbeat(
    bundle: Path, install: Install, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "SECONDS", 0.01)
    trt, beat = install("8.6.0"), threading.Event()
    trt.scenario.before_step = lambda step: beat.wait(60)

    def report(step: str) -> None:
        if re.fullmatch(r"still building after \d+ s", step):
            beat.set()

    assert build(bundle, report=report).built
    assert beat.is_set()
    assert "heartbeat" not in {thread.name for thread in threading.enumerate()}


def test_ctrl_c_stops_at_the_end_where_a_version_cannot_stop_and_says_so(
    bundle: Path, install: Install, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "SECONDS", 0.01)
    trt, told = install("8.6.0"), threading.Event()

    def press(step: int) -> None:
        if step == 0:
            signal.raise_signal(signal.SIGINT)
            assert told.wait(60)

    def report(step: str) -> None:
        if "interrupted" in step and "Ctrl-C again ends" in step:
            told.set()

    trt.scenario.before_step = press
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        build(bundle, report=report)
    assert names(bundle / "engines") == []
    assert signal.getsignal(signal.SIGINT) is before


def test_ctrl_c_stops_at_the_next_step_where_a_version_can(bundle: Path, install: Install) -> None:
    trt, steps = install("11.4.0"), list[int]()

    def press(step: int) -> None:
        steps.append(step)
        if step == 0:
            signal.raise_signal(signal.SIGINT)

    trt.scenario.before_step = press
    with pytest.raises(KeyboardInterrupt):
        build(bundle)
    assert steps == [0]
    assert names(bundle / "engines") == []


MACHINE = """
import os, signal, sys, time
sys.path.insert(0, "tests")
from pathlib import Path
from tensorrt_machine import install_tensorrt
from edgeunet.runtime.gpu.engine import build_bundle_engine
trt = install_tensorrt("8.6.0")
"""
STALL = """
def stall(step):
    print("building", flush=True)
    time.sleep(600)
trt.scenario.before_step = stall
build_bundle_engine(sys.argv[1])
"""
TWICE = """
def press(step):
    signal.raise_signal(signal.SIGINT)
    print("once", flush=True)
    signal.raise_signal(signal.SIGINT)
    print("twice", flush=True)
trt.scenario.before_step = press
build_bundle_engine(sys.argv[1])
"""
BUILD = "print(build_bundle_engine(sys.argv[1]).built)"


def test_a_killed_build_leaves_nothing_that_passes_for_whole(
    bundle: Path, install: Install
) -> None:
    process = start(MACHINE + STALL, bundle)
    assert process.stdout is not None
    assert process.stdout.readline() == "building\n"
    process.kill()
    process.communicate(timeout=60)
    assert names(bundle / "engines") == []
    install("8.6.0")
    assert build(bundle).reason == "there is none yet"


def test_ctrl_c_twice_ends_the_process(bundle: Path) -> None:
    process = start(MACHINE + TWICE, bundle)
    assert process.communicate(timeout=60) == ("once\n", "")
    assert process.returncode == -signal.SIGINT
    assert names(bundle / "engines") == []


def test_of_two_processes_one_builds(bundle: Path) -> None:
    processes = [start(MACHINE + BUILD, bundle) for _ in range(2)]
    said = [process.communicate(timeout=120) for process in processes]
    assert sorted(out for out, _ in said) == ["False\n", "True\n"], said


# Refusals


def test_what_the_parser_refuses_is_told_with_its_place(bundle: Path, trt: ModuleType) -> None:
    trt.scenario.parser_faults = (
        ParserFault("no convolutions today", node=0),
        ParserFault("nor anything else", code="INVALID_GRAPH"),
    )
    message = refused(bundle, precision="fp32")
    place = "node 0" if trt.__version__ == "8.6.0" else "node 'conv' (Conv)"
    assert message == (
        f"TensorRT cannot parse {bundle / flavour_file('fp32')}: {place}: UNSUPPORTED_NODE, no "
        "convolutions today; INVALID_GRAPH, nor anything else."
    )


def test_a_parser_that_lists_no_error_is_told_by_the_log(
    bundle: Path, trt: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    trt.scenario.parser_faults = (ParserFault("no convolutions today", node=0),)
    monkeypatch.setattr(trt.OnnxParser, "num_errors", property(lambda self: 0))
    assert re.search(r"cannot parse .*\.onnx: no convolutions today\.$", refused(bundle))


def test_a_build_that_fails_is_told_in_the_builders_words(bundle: Path, trt: ModuleType) -> None:
    trt.scenario.build_errors = ("Error Code 9: the moon is full",)
    message = refused(bundle)
    assert re.search(r"cannot build .*onnx: Error Code 9: the moon is full\.$", message)


def test_a_builder_that_does_not_start_is_told(bundle: Path, trt: ModuleType) -> None:
    trt.scenario.gpu = False
    assert "cannot start its builder: CUDA initialization failure" in refused(bundle)


@pytest.mark.parametrize(
    ("said", "advice"),
    [
        ("CUDA initialization failure with error: 35. Please check it", "update the driver"),
        ("CUDA driver version is insufficient for CUDA runtime version", "update the driver"),
        ("Cuda Runtime (cudaErrorInsufficientDriver)", "update the driver"),
        ("CUDA initialization failure with error: 999", "See nvidia-smi"),
    ],
)
def test_what_to_do_about_a_driver_is_said(said: str, advice: str) -> None:
    words = last_words(SimpleNamespace(errors=[], warnings=[said]))
    assert words.startswith(f"{said}. ")
    assert [text for text in ("update the driver", "See nvidia-smi") if text in words] == [advice]


def test_a_missing_tensorrt_names_the_extra_and_jetpack(bundle: Path, install: Install) -> None:
    install("10.3.0")
    sys.modules["tensorrt"] = None  # type: ignore[assignment]
    with pytest.raises(MissingDependencyError, match=r"'edgeunet\[trt\]'.*Jetson.*site-packages"):
        build(bundle)


def test_a_tensorrt_without_its_libraries_says_how_to_get_them(
    bundle: Path, tmp_path: Path, install: Install, monkeypatch: pytest.MonkeyPatch
) -> None:
    install("10.3.0")
    del sys.modules["tensorrt"]
    (tmp_path / "tensorrt.py").write_text("raise ImportError('libnvinfer.so.10: cannot open')")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(EngineError, match=r"libnvinfer\.so\.10.*edgeunet\[trt\].*LD_LIBRARY_PATH"):
        build(bundle)


def test_a_tensorrt_that_is_too_old_is_refused(bundle: Path, install: Install) -> None:
    install("8.6.0").__version__ = "8.5.3.1"  # type: ignore[attr-defined]
    with pytest.raises(EngineError, match=r"TensorRT 8\.5\.3\.1 is too old; 8\.6 or newer"):
        build(bundle)


@pytest.mark.parametrize(
    ("version", "flavour"),
    [("10.11.0.33", "fp32"), ("10.12.0.36", "fp16"), ("10.9", "fp32"), ("12.0", "fp16")],
)
def test_strong_typing_begins_with_10_12(version: str, flavour: str, install: Install) -> None:
    install("10.16.1").__version__ = version  # type: ignore[attr-defined]
    assert load_toolkit("tensorrt").flavours["fp16"] == flavour


def test_no_gpu_and_no_such_gpu(bundle: Path, install: Install) -> None:
    install("10.3.0", devices=0)
    with pytest.raises(BackendError, match="there is no GPU 0; there are none"):
        build(bundle)
    install("10.3.0")
    assert "there is no GPU 3" in fails(1, "build", bundle, "--runtime", "tensorrt", "--device", 3)


def test_a_folder_that_may_only_be_read_keeps_what_fits_and_refuses_the_rest(
    bundle: Path, trt: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = build(bundle).path

    def refuse(*_: object) -> None:
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(keep, "write_bytes", refuse)
    assert not build(bundle).built
    shutil.copy(plan, plan.with_suffix(".before"))
    with pytest.raises(EngineError, match=r"engines cannot be written: .*Read-only.*Copy the bund"):
        build(bundle, force=True)
    assert plan.read_bytes() == plan.with_suffix(".before").read_bytes()


# The command line


def test_the_runtime_is_that_of_the_machine_and_told(
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
    assert [line.split()[0] for line in again.splitlines()] == ["kept", "kept"]
    inspected = call("inspect", root).stdout
    version = re.escape(trt.__version__)
    assert re.search(
        rf"orin-sm87-trt{version}-fp16-encoder\.engine: fp16 encoder for Orin \(sm87\), "
        r"batch 1 to 4 \(",
        inspected,
    )


def test_build_lists_what_falls_back(bundle: Path, dla: ModuleType) -> None:
    dla.scenario.dla_refuses = frozenset({"Conv"})
    made = succeeds("build", bundle, "--runtime", "tensorrt", "--dla", 0)
    assert "DLA 0 cannot run these layers (1); the GPU does:\n  conv\n" in made.stdout
    assert "Orin (sm87), DLA 0, batch 4 (" in call("inspect", bundle).stdout
    dla.scenario.dla_refuses = frozenset()
    again = succeeds("build", bundle, "--runtime", "tensorrt", "--dla", 0, "--force")
    assert "DLA 0 can run all layers" in again.stdout


def test_options_of_one_runtime_are_refused_by_the_other(bundle: Path, install: Install) -> None:
    install("10.3.0")
    message = fails(2, "build", bundle, "--runtime", "tensorrt", "--targets", "sm89")
    assert "--targets is for --runtime rtx" in message
    pytest.importorskip("tensorrt_rtx_bindings", reason="TensorRT-RTX is not installed")
    for option in ("--device", "--dla", "--workspace"):
        message = fails(2, "build", bundle, "--runtime", "rtx", option, 1)
        assert "are for --runtime tensorrt" in message
