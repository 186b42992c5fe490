"""Building engines of TensorRT, on stand-ins for several versions and for the GPU."""

from __future__ import annotations

import json
from pathlib import Path
from types import ModuleType

import pytest

from edgeunet.bundle.bundle import open_bundle
from edgeunet.bundle.engines import list_engines
from edgeunet.bundle.manifest import PARTS, Part, part_file
from edgeunet.errors import BackendError, BundleError, GraphError, UsageError
from edgeunet.files import sha256
from edgeunet.runtime.gpu import driver
from edgeunet.runtime.gpu.engine import build_bundle_engine, engine_parts
from support.commands import fails
from support.engine_builds import VERSIONS, WEAK, Install, build, ends
from support.hostile_graphs import PLACES
from support.small_bundle import names, write_bundle


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    return write_bundle(tmp_path / "bundle")


@pytest.fixture
def int8_bundle(tmp_path: Path) -> Path:
    return write_bundle(tmp_path / "bundle", precision="int8")


def test_plan_and_sidecar_name_card_and_version(bundle: Path, trt: ModuleType) -> None:
    engine = build(bundle)
    assert engine.path.name == f"orin-sm87-trt{trt.__version__}-fp16.engine"
    request = json.loads(engine.path.with_suffix(".json").read_text())["request"]
    assert (request["gpu"], request["targets"]) == ("Orin", ["sm87"])
    assert (request["version"], request["part"], request["dla"]) == (trt.__version__, None, None)
    again = build(bundle, workspace_mb=1)
    assert (again.built, again.path) == (False, engine.path)


def test_gpu_is_current_during_the_build_and_released_afterwards(
    bundle: Path, trt: ModuleType
) -> None:
    free: list[int] = []
    trt.scenario.before_step = lambda step: free.append(driver.mem_get_info()[0])
    build(bundle)  # what is left, the fixture tells
    assert free


def test_each_part_of_a_gated_bundle_has_an_engine(tmp_path: Path, trt: ModuleType) -> None:
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


def test_only_gated_bundles_have_parts(bundle: Path, tmp_path: Path, trt: ModuleType) -> None:
    gated = open_bundle(write_bundle(tmp_path / "gated", gated=True))
    assert engine_parts(gated, runtime="tensorrt") == ("encoder", "decoder")
    assert engine_parts(open_bundle(bundle), runtime="tensorrt") == (None,)
    with pytest.raises(UsageError, match="holds no decoder of its"):
        build(bundle, part="decoder")


@pytest.mark.parametrize("lost", PARTS)
def test_gated_bundle_without_a_part_is_refused(
    tmp_path: Path, trt: ModuleType, lost: Part
) -> None:
    """Although its whole graph is there, which would run without the gate."""
    gated = open_bundle(write_bundle(tmp_path / "gated", gated=True))
    for name in [name for name in gated.manifest.files if name.endswith(f".{lost}.onnx")]:
        del gated.manifest.files[name]
    with pytest.raises(BundleError, match=f"has a gate, but no {lost} of its .* Export the bundle"):
        engine_parts(gated, runtime="tensorrt")


def test_dla_refuses_fp32(bundle: Path, dla: ModuleType) -> None:
    message = fails(2, "build", bundle, "--runtime", "tensorrt", "--dla", 0, "--precision", "fp32")
    assert "the DLA computes in FP16 and INT8" in message


@pytest.mark.parametrize("version", VERSIONS)
def test_weakly_typed_versions_warn_about_int8_on_a_dla(
    version: str, int8_bundle: Path, install: Install
) -> None:
    install(version).scenario.dla_cores = 1
    told: list[str] = []
    build(int8_bundle, dla=0, report=told.append)
    assert any("takes no Q/DQ nodes" in step for step in told) == (version in WEAK)


def test_changed_graph_is_not_parsed(bundle: Path, trt: ModuleType) -> None:
    opened = open_bundle(bundle)
    for path in bundle.glob("*.onnx"):
        path.write_bytes(PLACES["initializer"]().SerializeToString())
    with pytest.raises(BundleError, match=r"\.onnx has SHA-256"):
        build_bundle_engine(opened)
    assert names(bundle / "engines") == []


def test_graph_that_reads_other_files_is_not_parsed(
    bundle: Path, trt: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Although its hash is right: an opened bundle has none, so this one is made up."""
    opened = open_bundle(bundle)
    content = PLACES["initializer"]().SerializeToString()
    for name in opened.manifest.files:
        (bundle / name).write_bytes(content)
        opened.manifest.files[name] = sha256(bundle / name)
    monkeypatch.setattr(trt.OnnxParser, "parse", lambda *_: pytest.fail("it was parsed"))
    with pytest.raises(GraphError, match="in another file"):
        build_bundle_engine(opened)


def test_missing_gpu_is_named(bundle: Path, install: Install) -> None:
    install("10.3.0", devices=0)
    with pytest.raises(BackendError, match="no CUDA-capable device is detected"):
        build(bundle)
    install("10.3.0")
    assert "there is no GPU 3" in fails(1, "build", bundle, "--runtime", "tensorrt", "--device", 3)
