"""The stand-in for TensorRT builds, and refuses to build, as the real one."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from typing import Any

import pytest

from support import fake_tensorrt
from support.fake_tensorrt import OUT_OF_MEMORY, NoTactic, ParserFault, Scenario
from support.trt_builds import Build, collecting_logger, graph, loaded

VERSIONS = fake_tensorrt.recorded_versions()
RTX = "rtx-1.7.1"
WEAK = [version for version in VERSIONS if version not in ("11.4.0", RTX)]


@pytest.mark.parametrize("version", VERSIONS)
def test_it_takes_the_place_of_the_module(monkeypatch: Any, version: str) -> None:
    name = "tensorrt_rtx_bindings" if version == RTX else "tensorrt"
    made = fake_tensorrt.make(version)
    monkeypatch.setitem(sys.modules, made.__name__, made)
    trt = importlib.import_module(name)
    assert trt is made and trt.__version__.startswith(version.removeprefix("rtx-"))


@pytest.mark.parametrize("version", VERSIONS)
def test_a_plan_is_a_buffer_without_length_or_items(version: str) -> None:
    build = Build(fake_tensorrt.make(version))
    assert build.parsed and build.add_profile() == 0
    plan = build.run()
    assert plan and plan.nbytes == len(bytes(plan)) == memoryview(plan).nbytes
    for use in (len, iter, lambda held: held[0]):
        with pytest.raises(TypeError):
            use(plan)


def test_tensorrt_8_parses_into_networks_with_a_batch_dimension_only() -> None:
    trt = fake_tensorrt.make("8.6.0")
    log = collecting_logger(trt)
    network = trt.Builder(log).create_network()
    parser = trt.OnnxParser(network, log)
    assert not parser.parse(graph())
    assert "explicit batch" in parser.get_error(0).desc()


@pytest.mark.parametrize("version", VERSIONS)
def test_a_fault_of_the_parser_names_its_node_where_the_version_can(version: str) -> None:
    trt = fake_tensorrt.make(version, Scenario(parser_faults=(ParserFault("no", 1),)))
    build = Build(trt)
    assert not build.parsed and build.parser.num_errors == 1
    error = build.parser.get_error(0)
    assert (error.node(), error.desc(), error.code()) == (1, "no", trt.ErrorCode.UNSUPPORTED_NODE)
    if version == "8.6.0":
        with pytest.raises(AttributeError):
            error.node_name()
    else:
        assert (error.node_name(), error.node_operator()) == ("conv1", "Conv")


@pytest.mark.parametrize("version", WEAK)
@pytest.mark.parametrize("flag", ["FP16", "INT8"])
def test_precision_flags_are_for_weakly_typed_networks(version: str, flag: str) -> None:
    trt = fake_tensorrt.make(version)
    for strong in (False, *([True] if version != "8.6.0" else [])):
        build = Build(trt, strong=strong)
        build.add_profile()
        build.config.set_flag(getattr(trt.BuilderFlag, flag))
        assert (build.run() is None) == strong
        assert [f"BuilderFlag::k{flag}" in error for error in build.log.errors] == [True] * strong
        del build


def test_a_strongly_typed_network_keeps_the_types_of_its_graph() -> None:
    build = Build(fake_tensorrt.make("10.16.1"), strong=True)
    build.network.get_input(0).dtype = build.trt.float16
    assert build.network.get_input(0).dtype == build.trt.float32
    assert "setType" in build.log.errors[0]


def test_a_build_that_fails_deep_inside_tells_the_logger_of_the_first_builder_that_lives() -> None:
    trt = fake_tensorrt.make("10.3.0", Scenario(build_errors=OUT_OF_MEMORY))
    first, second = Build(trt), Build(trt)
    second.add_profile()
    assert second.run() is None
    assert (first.log.errors, second.log.errors) == (list(OUT_OF_MEMORY), [])
    del first, second
    alone = Build(trt)
    alone.add_profile()
    assert alone.run() is None and alone.log.errors == list(OUT_OF_MEMORY)


def test_a_build_can_raise_want_workspace_and_lack_a_gpu() -> None:
    trt = fake_tensorrt.make("8.6.0", Scenario(build_raises=SystemError("inside")))
    build = Build(trt)
    build.add_profile()
    with pytest.raises(SystemError, match="inside"):
        build.run()
    trt.scenario = Scenario(needs_workspace=2 << 20)
    assert build.run() is not None
    build.config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, 1 << 20)
    assert build.run() is None and "insufficient workspace" in build.log.errors[-1]
    trt.scenario = Scenario(gpu=False)
    for kind in (trt.Builder, trt.Runtime):
        with pytest.raises(TypeError, match="returned nullptr"):
            kind(build.log)


@pytest.mark.parametrize("version", VERSIONS)
def test_a_layer_without_tactics_fails_with_the_messages_of_its_version(version: str) -> None:
    trt = fake_tensorrt.make(version)
    fault = NoTactic("conv1", "conv0 + conv1", precision="FLOAT", memory=(143, 112))
    trt.scenario = Scenario(no_tactics=(NoTactic("conv1"), fault))
    build = Build(trt)
    build.add_profile()
    assert build.run() is None
    (error,) = build.log.errors
    assert "Could not find any implementation for node conv0 + conv1." in error
    requested, skipped = build.log.warnings
    assert requested.startswith("Tactic Device request: 143MB Available: 112MB.")
    assert f"requested size of {143 if version == '8.6.0' else 143 << 20} d" in skipped
    trt.scenario = Scenario(no_tactics=(NoTactic("conv1", precision="FLOAT", cure="CUDNN"),))
    assert (build.run() is None) != hasattr(trt.TacticSource, "CUDNN")


@pytest.mark.parametrize("version", ["8.6.0", "10.3.0"])
def test_a_constraint_changes_the_precision_of_a_layer_if_a_flag_says_so(version: str) -> None:
    trt = fake_tensorrt.make(version)
    trt.scenario = Scenario(no_tactics=(NoTactic("conv1", precision="HALF"),))
    build = Build(trt)
    build.add_profile()
    assert build.run() is not None  # FP32
    build.config.set_flag(trt.BuilderFlag.FP16)
    assert build.run() is None
    build.network.get_layer(1).precision = trt.float32
    assert build.run() is None
    build.config.set_flag(trt.BuilderFlag.OBEY_PRECISION_CONSTRAINTS)
    assert build.run() is not None


def test_a_logger_that_raises_does_not_stop_a_build(capsys: pytest.CaptureFixture[str]) -> None:
    trt = fake_tensorrt.make("10.3.0")

    class Broken(trt.ILogger):  # type: ignore[misc, name-defined]
        def log(self, severity: Any, message: str) -> None:
            raise ValueError("broken")

    build = Build(trt)
    build.builder = trt.Builder(Broken())
    assert build.run() is None
    assert "Exception caught in log(): broken" in capsys.readouterr().err


# The same words as TensorRT-RTX, which builds without a GPU


def _cancelled(build: Build, answer: Callable[[], Any]) -> Any:
    class Monitor(build.trt.IProgressMonitor):  # type: ignore[misc, name-defined]
        def phase_start(self, name: str, parent: str | None, steps: int) -> None:
            open_phases.append(name)

        def step_complete(self, name: str, step: int) -> Any:
            return answer()

        def phase_finish(self, name: str) -> None:
            open_phases.remove(name)

    open_phases: list[str] = []
    build.add_profile()
    build.config.progress_monitor = Monitor()
    plan = build.run()
    assert open_phases == []
    return plan


def _no_profile(build: Build) -> Any:
    return build.run()


def _profile_of_another_input(build: Build) -> Any:
    assert build.add_profile(name="other") == 0
    return build.run()


def _profile_of_another_size(build: Build) -> Any:
    profile = build.builder.create_optimization_profile()
    profile.set_shape("image", *[(1, 3, 8, 6)] * 3)
    assert build.config.add_optimization_profile(profile) == 0
    return build.run()


def _profile_upside_down(build: Build) -> Any:
    assert build.add_profile(4, 1) == -1
    return None


def _no_outputs(build: Build) -> Any:
    build.network = build.builder.create_network()
    return build.run()


def _cancelled_by_false(build: Build) -> Any:
    return _cancelled(build, lambda: False)


def _cancelled_by_an_error(build: Build) -> Any:
    return _cancelled(build, lambda: 1 / 0)


def _not_cancelled(build: Build) -> Any:
    assert _cancelled(build, lambda: True) is not None


def _no_onnx(build: Build) -> Any:
    network = build.builder.create_network()
    parser = build.trt.OnnxParser(network, build.log)
    assert not parser.parse(b"no protobuf at all")
    assert parser.get_error(0).code().name == "MODEL_DESERIALIZE_FAILED"
    assert parser.get_error(0).node() == -1


def _no_such_target(build: Build) -> Any:
    assert build.config.num_compute_capabilities == 0
    build.config.num_compute_capabilities = 2
    sm89, none = build.trt.ComputeCapability.SM89, build.trt.ComputeCapability.NONE
    assert build.config.set_compute_capability(sm89, 1)
    assert [build.config.get_compute_capability(index) for index in range(2)] == [none, sm89]
    assert not build.config.set_compute_capability(sm89, 2)
    build.add_profile()
    build.config.num_compute_capabilities = 1
    assert build.config.set_compute_capability(sm89, 0)
    assert build.run() is not None


def _target_left_open(build: Build) -> Any:
    build.config.num_compute_capabilities = 2
    build.add_profile()
    return build.run()


def _nothing_out_of_range(build: Build) -> Any:
    assert build.network.get_input(9) is None
    with pytest.raises(IndexError):
        build.network[9]


@pytest.mark.parametrize(
    ("misuse", "words"),
    [
        (_no_profile, "Error Code 4: API Usage Error (Network has dynamic or shape inputs, but no"),
        (_profile_of_another_input, "Error Code 4: API Usage Error (Dynamic input tensor image is"),
        (_profile_of_another_size, "Error Code 4: API Usage Error (Dimension mismatch for tensor"),
        (_profile_upside_down, "Error Code 4: API Usage Error (Invalid optimization profiles"),
        (_no_outputs, "Error Code 4: API Usage Error (Network must have at least one output."),
        (_cancelled_by_false, "Error Code 7: BuildCanceled (Build canceled by user"),
        (_cancelled_by_an_error, "Error Code 7: BuildCanceled (Build canceled by user"),
        (_not_cancelled, ""),
        (_no_onnx, "Failed to parse the ONNX model."),
        (_no_such_target, "Index of compute capability is not in a valid range"),
        (_target_left_open, "bad optional access"),
        (_nothing_out_of_range, "INetworkDefinition::getInput: Error Code 3: API Usage Error ("),
    ],
    ids=lambda value: value.__name__.strip("_") if callable(value) else "",
)
@pytest.mark.parametrize("real", [False, True], ids=["stand-in", "TensorRT-RTX"])
def test_misuse_ends_as_with_the_real_one(
    real: bool, misuse: Callable[[Build], Any], words: str
) -> None:
    if real:
        trt = pytest.importorskip("tensorrt_rtx_bindings", reason="TensorRT-RTX is not installed")
    else:
        trt = fake_tensorrt.make(RTX)
    build = Build(trt, strong=True)
    assert misuse(build) is None
    assert any(words in message for message in [*build.log.errors, ""])


# Timing caches, the DLA


def test_a_timing_cache_is_of_a_version_and_a_card() -> None:
    trt = fake_tensorrt.make("10.3.0")
    build = Build(trt)
    build.add_profile()
    assert build.config.get_timing_cache() is None
    cache = build.config.create_timing_cache(b"")
    assert build.config.set_timing_cache(cache, False)
    empty = bytes(cache.serialize())
    assert build.run() is not None
    content = bytes(build.config.get_timing_cache().serialize())
    assert len(content) > len(empty)
    for other, mismatch, fits in (("10.3.0", False, True), ("10.16.1", True, False)):
        config = Build(fake_tensorrt.make(other)).config
        assert config.set_timing_cache(config.create_timing_cache(content), mismatch) == fits
    trt.scenario.capability = "sm72"
    config = Build(trt).config
    assert not config.set_timing_cache(config.create_timing_cache(content), False)
    assert config.set_timing_cache(config.create_timing_cache(content), True)
    assert bytes(config.create_timing_cache(b"garbage").serialize()) != content


def test_the_dla_takes_what_it_can_and_the_gpu_the_rest_where_it_may() -> None:
    trt = fake_tensorrt.make("10.3.0", Scenario(dla_cores=2, dla_refuses=frozenset({"conv1"})))
    build = Build(trt)
    build.config.default_device_type = trt.DeviceType.DLA
    build.config.DLA_core = 1
    layers = [build.network.get_layer(index) for index in range(build.network.num_layers)]

    def taken() -> list[bool]:
        return [build.config.can_run_on_DLA(layer) for layer in layers]

    assert taken() == [False, False]  # neither FP16 nor INT8
    build.config.set_flag(trt.BuilderFlag.FP16)
    assert taken() == [False, False]  # a dynamic batch
    build.add_profile(2, 2)
    assert taken() == [True, False]
    assert build.run() is None and "GPU fallback is not enabled" in build.log.errors[-1]
    build.config.set_flag(trt.BuilderFlag.GPU_FALLBACK)
    plan = bytes(build.run())
    assert loaded(trt, plan)[0] is not None
    trt.scenario.dla_cores = 1
    engine, log = loaded(trt, plan)
    assert engine is None and "DLA core 1" in log.errors[-1]
