"""Builds in which TensorRT finds no tactic for a layer."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import onnx
import pytest

from edgeunet.bundle.engines import EngineChanges, read_card
from edgeunet.errors import MissingDependencyError
from edgeunet.runtime.gpu.engine import BuiltEngine
from edgeunet.runtime.gpu.engine.tactics import find_no_tactic
from support.commands import succeeds
from support.engine_builds import VERSIONS, WEAK, Install, build, plan_of, refused
from support.fake_tensorrt import NoTactic
from support.small_bundle import write_bundle

OLD = ("8.6.0", "10.3.0", "10.16.1")  # with cuBLAS and cuDNN


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    return write_bundle(tmp_path / "bundle", precision="int8")


def told_and_built(bundle: Path, **options: Any) -> tuple[list[str], BuiltEngine]:
    """What the build reports about tactics, and the engine."""
    told: list[str] = []
    engine = build(bundle, report=told.append, **options)
    assert read_card(engine.path) == engine.card
    return [step for step in told if "tactic" in step], engine


def operators(engine: BuiltEngine) -> list[str]:
    model = onnx.load_from_string(plan_of(engine).onnx)
    onnx.checker.check_model(model, full_check=True)
    return [node.op_type for node in model.graph.node]


def test_nothing_is_changed_without_need(bundle: Path, trt: ModuleType) -> None:
    told, engine = told_and_built(bundle)
    assert (told, engine.card.changes) == ([], EngineChanges())
    assert "QuantizeLinear" in operators(engine)


@pytest.mark.parametrize("version", OLD)
def test_all_sources_of_tactics_come_first(
    version: str, bundle: Path, install: Install, configured: list[tuple[Any, Any]]
) -> None:
    trt = install(version)
    trt.scenario.no_tactics = (NoTactic("conv", cure="CUDNN"),)
    told, engine = told_and_built(bundle)
    assert told == ["TensorRT found no tactic for conv; trying those of cuBLAS and cuDNN too"]
    assert engine.card.changes == EngineChanges(all_tactics=True)
    assert "QuantizeLinear" in operators(engine)
    before, after = (config.get_tactic_sources() for _, config in configured)
    assert after > before
    assert "may use cuBLAS and cuDNN" in succeeds("inspect", bundle).stdout


@pytest.mark.parametrize("version", VERSIONS)
def test_then_the_layer_alone_runs_in_fp16(
    version: str, bundle: Path, install: Install, configured: list[tuple[Any, Any]]
) -> None:
    trt = install(version)
    printed = "kernel + kernel_QuantizeLinear_conv + conv"
    trt.scenario.no_tactics = (NoTactic("conv", printed),)
    told, engine = told_and_built(bundle)
    assert told[-1] == f"TensorRT found no INT8 tactic for {printed}; in FP16 from now on: conv"
    assert len(told) == (2 if version in OLD else 1)  # no other sources since 11
    assert engine.card.changes == EngineChanges(fp16_layers=("conv",))
    assert {"QuantizeLinear", "DequantizeLinear"}.isdisjoint(operators(engine))
    network, config = configured[-1]
    kinds = trt.TacticSource.__members__
    assert not any(
        config.get_tactic_sources() >> int(kinds[name]) & 1
        for name in kinds
        if name.startswith("CU")
    )
    if version in WEAK:
        (layer,) = (network.get_layer(index) for index in range(network.num_layers))
        assert layer.precision == trt.DataType.HALF
        assert "PREFER_PRECISION_CONSTRAINTS" in plan_of(engine).flags
    line = "runs 1 layers without INT8 tactics in FP16: conv"
    assert line in succeeds("inspect", bundle).stdout
    assert line in succeeds("build", bundle, "--runtime", "tensorrt").stdout


@pytest.mark.parametrize("version", VERSIONS)
def test_each_layer_without_a_tactic_costs_one_attempt(
    version: str, tmp_path: Path, install: Install
) -> None:
    root = write_bundle(tmp_path / "gated", precision="int8", gated=True)
    trt = install(version)
    trt.scenario.no_tactics = (NoTactic("conv"), NoTactic("decode"))
    _, encoder = told_and_built(root, part="encoder")
    assert encoder.card.changes.fp16_layers == ("conv",)
    _, whole = told_and_built(root)
    assert whole.card.changes == EngineChanges(fp16_layers=("conv", "decode"))
    assert whole.card.request.onnx_sha256 == build(root).card.request.onnx_sha256


@pytest.mark.parametrize("version", OLD)
def test_tactics_that_helped_one_layer_stay_for_the_next(
    version: str, tmp_path: Path, install: Install
) -> None:
    root = write_bundle(tmp_path / "gated", precision="int8", gated=True)
    install(version).scenario.no_tactics = (NoTactic("conv", cure="CUBLAS"), NoTactic("decode"))
    _, engine = told_and_built(root)
    assert engine.card.changes == EngineChanges(all_tactics=True, fp16_layers=("decode",))


def test_no_more_layers_leave_int8_than_a_bound(
    tmp_path: Path, trt: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edgeunet.runtime.gpu.engine.tactics.MAX_LAYERS", 1)
    root = write_bundle(tmp_path / "gated", precision="int8", gated=True)
    trt.scenario.no_tactics = (NoTactic("conv"), NoTactic("decode"))
    message = refused(root)
    assert "find any implementation for node decode" in message
    assert "FP16 for conv. More memory would not help" in message
    assert ("tried: all sources of tactics; " in message) == hasattr(trt.TacticSource, "CUDNN")


@pytest.mark.parametrize("precision", ["fp16", "fp32"])
def test_float_nets_have_no_layer_to_take_out(
    precision: str, bundle: Path, trt: ModuleType
) -> None:
    kind = {"fp16": "HALF", "fp32": "FLOAT"}[precision]
    printed = "{ForeignNode[conv...conv]}"
    trt.scenario.no_tactics = (NoTactic("conv", printed, precision=kind),)
    message = refused(bundle, precision=precision)
    assert f"Could not find any implementation for node {printed}" in message
    assert "has no tactic for it" in message and "More memory would not help" in message
    assert "--workspace" not in message and "--max-batch" not in message
    assert ("build --precision fp32 instead" in message) == (precision == "fp16")


def test_layer_without_tactics_in_fp16_either_is_an_error(bundle: Path, trt: ModuleType) -> None:
    trt.scenario.no_tactics = (NoTactic("conv"), NoTactic("conv", precision="HALF"))
    message = refused(bundle)
    assert "these were tried: " in message and "FP16 for conv" in message
    assert "build --precision fp16 instead, or use another version" in message
    assert "--workspace" not in message


@pytest.mark.parametrize("cure", [None, "CUDNN"])
def test_memory_that_is_short_is_told_with_both_figures_and_nothing_is_changed(
    cure: str | None, bundle: Path, trt: ModuleType
) -> None:
    trt.scenario.no_tactics = (NoTactic("conv", cure=cure, memory=(143, 112)),)
    told: list[str] = []
    message = refused(bundle, report=told.append)
    assert message.endswith(
        "no tactic for conv fits into memory: the smallest requested 143 MB, 112 MB were "
        "available. Close other programs that use the GPU, or export with a smaller --max-batch."
    )
    assert not any("tactic" in step for step in told)


def test_memory_without_the_available_figure_is_told(bundle: Path, trt: ModuleType) -> None:
    trt.scenario.no_tactics = (NoTactic("conv", memory=(143, None)),)
    assert "fits into memory: the smallest requested 143 MB. Close" in refused(bundle)


def test_workspace_that_is_too_small_is_told(bundle: Path, trt: ModuleType) -> None:
    trt.scenario.no_tactics = (NoTactic("conv", memory=(143, 112)),)
    message = refused(bundle, workspace_mb=112)
    assert "whole workspace: if more is free, pass --workspace 143 or more." in message


def test_memory_that_another_layer_lacked_is_not_the_reason(bundle: Path, trt: ModuleType) -> None:
    trt.scenario.short_elsewhere = (143, 112)
    trt.scenario.no_tactics = (NoTactic("conv"),)
    _, engine = told_and_built(bundle)
    assert engine.card.changes.fp16_layers == ("conv",)


def test_what_a_failed_attempt_has_timed_is_kept(
    bundle: Path, cache_folder: Path, trt: ModuleType
) -> None:
    trt.scenario.no_tactics = (NoTactic("conv"), NoTactic("conv", precision="HALF"))
    refused(bundle)
    assert list((cache_folder / "edgeunet").glob("timing-*.cache"))


def test_missing_onnx_is_told_with_the_failure(
    bundle: Path, trt: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing(content: bytes) -> None:
        raise MissingDependencyError("onnx", "trt")

    monkeypatch.setattr("edgeunet.runtime.gpu.engine.tactics.parse_graph", missing)
    trt.scenario.no_tactics = (NoTactic("conv"),)
    message = refused(bundle)
    assert "find any implementation for node conv" in message
    assert "With onnx, the layer could run in FP16. onnx is not installed." in message


def log_of(*errors: str) -> SimpleNamespace:
    return SimpleNamespace(errors=list(errors), warnings=[], shortages=[])


@pytest.mark.parametrize(
    ("said", "layer"),
    [
        ("Error Code 10: Internal Error (Could not find any implementation for node c1.)", "c1"),
        ("Could not find any implementation for node a.weight + a + PWN(PWN(b), c).",
         "a.weight + a + PWN(PWN(b), c)"),
        ("Error Code: 10: Could not find any implementation for node {ForeignNode[a...b + c]}.",
         "{ForeignNode[a...b + c]}"),
        ("IBuilder::buildSerializedNetwork: Error Code 10: Internal Error (Could not find any "
         "implementation for node a/Conv.1. In computeCosts at optimizer/tactic.cpp:4115)",
         "a/Conv.1"),
        ("Error Code 10: Internal Error (Could not find any implementation for node Conv_3 + "
         "Relu_4 due to insufficient workspace. See verbose log for requested sizes.)",
         "Conv_3 + Relu_4"),
    ],
)  # fmt: skip
def test_name_of_the_layer_is_read_from_the_log(said: str, layer: str) -> None:
    failure = find_no_tactic(log_of("Error Code 1: before it", said, "Error Code 2: behind it"))
    assert failure is not None
    assert failure.layer == layer
    assert failure.wants_workspace == ("insufficient workspace" in said)


def test_other_failures_are_not_about_tactics() -> None:
    assert find_no_tactic(log_of("Error Code 9: the moon is full")) is None
    assert find_no_tactic(log_of()) is None
