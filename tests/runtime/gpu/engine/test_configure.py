"""What the builder is asked for: graph, flags, types, profile, workspace, DLA."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from edgeunet.bundle.engines import engine_dtype
from edgeunet.bundle.manifest import flavour_file
from edgeunet.files import sha256
from support.commands import fails
from support.engine_builds import STRONG, VERSIONS, WEAK, Install, build, ends, plan_of
from support.small_bundle import names, write_bundle


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    return write_bundle(tmp_path / "bundle")


@pytest.fixture
def int8_bundle(tmp_path: Path) -> Path:
    return write_bundle(tmp_path / "bundle", precision="int8")


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8"])
def test_each_version_gets_its_graph_flags_and_types(
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
        wanted = {"float32": "FLOAT", "float16": "HALF"}[engine_dtype(precision).name]
        assert wanted == ("FLOAT" if precision == "fp32" else "HALF")
        assert ends(engine) == {"image": wanted, "logits": wanted}


@pytest.mark.parametrize("version", VERSIONS[1:])
def test_networks_are_strongly_typed_from_the_right_version_on(
    version: str, bundle: Path, install: Install, configured: list[tuple[Any, Any]]
) -> None:
    """That 8.6 gets EXPLICIT_BATCH shows in its parser, which refuses a network without."""
    flags = install(version).NetworkDefinitionCreationFlag.__members__
    build(bundle)
    ((network, _),) = configured
    given = {name for name, flag in flags.items() if network.get_flag(flag)}
    assert given == ({"STRONGLY_TYPED"} if version in STRONG else set())


def test_cublas_and_cudnn_are_not_used(
    bundle: Path, trt: ModuleType, configured: list[tuple[Any, Any]]
) -> None:
    build(bundle)
    ((_, config),) = configured
    sources = config.get_tactic_sources()
    on = {name for name, each in trt.TacticSource.__members__.items() if sources >> int(each) & 1}
    assert on == {"EDGE_MASK_CONVOLUTIONS", "JIT_CONVOLUTIONS"}


def test_profile_reaches_from_1_to_the_largest_batch(bundle: Path, trt: ModuleType) -> None:
    (profile,) = plan_of(build(bundle)).profiles
    least, tuned, most = profile["image"]
    assert (least, tuned, most) == ((1, 3, 16, 16), (4, 3, 16, 16), (4, 3, 16, 16))


@pytest.mark.parametrize(
    ("gpu", "wanted"),
    [
        ({"capacity": 3 << 30}, 1536 << 20),
        ({"capacity": 2 << 30, "integrated": True}, 512 << 20),
        ({"capacity": 32 << 30, "integrated": True}, 1024 << 20),
    ],
)
def test_workspace_is_a_reported_share_of_free_memory(
    gpu: Any, wanted: int, bundle: Path, install: Install, configured: list[tuple[Any, Any]]
) -> None:
    trt = install("10.3.0", **gpu)
    told: list[str] = []
    build(bundle, report=told.append)
    ((_, config),) = configured
    assert config.get_memory_pool_limit(trt.MemoryPoolType.WORKSPACE) == wanted
    free = gpu["capacity"] >> 20
    assert f"workspace {wanted >> 20} MB, of {free} MB of free memory" in told


def test_layers_that_the_dla_cannot_run_are_listed(
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


def test_batch_of_a_dla_is_fixed_and_reported(
    bundle: Path, dla: ModuleType, configured: list[tuple[Any, Any]]
) -> None:
    told: list[str] = []
    engine = build(bundle, dla=0, report=told.append)
    assert engine.fallback == ()
    (profile,) = plan_of(engine).profiles
    assert set(profile["image"]) == {(4, 3, 16, 16)}
    assert tuple(configured[0][0].get_input(0).shape) == (4, 3, 16, 16)
    assert engine.card.request.min_batch == 4
    assert "the DLA takes no dynamic shapes: only batch 4" in told


@pytest.mark.parametrize(("cores", "known"), [(0, "no DLA core"), (1, "1 DLA core")])
def test_missing_dla_is_refused(cores: int, known: str, bundle: Path, trt: ModuleType) -> None:
    trt.scenario.dla_cores = cores
    message = fails(2, "build", bundle, "--runtime", "tensorrt", "--dla", 1)
    assert f"there is no DLA core 1: TensorRT {trt.__version__} finds {known}" in message
    assert names(bundle / "engines") == []


def test_dla_beyond_the_last_is_refused(bundle: Path, dla: ModuleType) -> None:
    message = fails(2, "build", bundle, "--runtime", "tensorrt", "--dla", 2)
    assert "finds the DLA cores 0 to 1" in message
