"""The recorded surfaces of TensorRT, and how strictly the stand-in keeps to them."""

from __future__ import annotations

import runpy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from support.fake_tensorrt import make, recorded_versions
from support.fake_tensorrt.surface import read_surface

VERSIONS = ("8.6.0", "10.3.0", "10.16.1", "11.4.0", "rtx-1.7.1")

# What each version has, as it was recorded: (name, versions that have it).
FACTS = [
    ("NetworkDefinitionCreationFlag.EXPLICIT_BATCH", VERSIONS[:3]),
    ("NetworkDefinitionCreationFlag.STRONGLY_TYPED", VERSIONS[1:]),
    *((f"BuilderFlag.{flag}", VERSIONS[:3]) for flag in ("FP16", "INT8")),
    *((f"BuilderFlag.{flag}_PRECISION_CONSTRAINTS", VERSIONS[:3]) for flag in ("OBEY", "PREFER")),
    ("BuilderFlag.TF32", VERSIONS),
    ("ILayer.precision", VERSIONS[:3]),
    ("IInt8EntropyCalibrator2", VERSIONS[:3]),
    ("ITensor.set_dynamic_range", VERSIONS[:3]),
    *(
        (name, VERSIONS)
        for name in (
            "Builder.build_serialized_network",
            "Builder.create_optimization_profile",
            "IBuilderConfig.set_memory_pool_limit",
            "IBuilderConfig.set_timing_cache",
            "ICudaEngine.create_engine_inspector",
            "ICudaEngine.num_io_tensors",
            "ICudaEngine.get_tensor_name",
            "ICudaEngine.get_tensor_mode",
            "ICudaEngine.get_tensor_dtype",
            "IExecutionContext.set_input_shape",
            "IExecutionContext.set_tensor_address",
            "IExecutionContext.execute_async_v3",
            "IBuilderConfig.builder_optimization_level",
            "IBuilderConfig.hardware_compatibility_level",
            "BuilderFlag.VERSION_COMPATIBLE",
            "Runtime.engine_host_code_allowed",
            "BuilderFlag.GPU_FALLBACK",
        )
    ),
    *(
        (name, VERSIONS[:1])
        for name in (
            "Builder.build_engine",
            "ICudaEngine.num_bindings",
            "IBuilderConfig.max_workspace_size",
            "IExecutionContext.execute_async_v2",
        )
    ),
    *(
        (name, VERSIONS[1:])
        for name in (
            "DataType.INT64",
            "ExecutionContextAllocationStrategy.USER_MANAGED",
            "IExecutionContext.set_device_memory",
            "IProgressMonitor",
            "ParserError.node_name",
            "ParserError.node_operator",
        )
    ),
    ("Builder.platform_has_fast_fp16", VERSIONS[:3]),
    ("ICudaEngine.device_memory_size", VERSIONS[:3]),
    ("ICudaEngine.device_memory_size_v2", VERSIONS[1:]),
    *((f"TacticSource.{source}", VERSIONS[:3]) for source in ("CUBLAS", "CUBLAS_LT", "CUDNN")),
    *(
        (name, VERSIONS[4:])
        for name in (
            "BuilderFlag.REQUIRE_USER_ALLOCATION",
            "ComputeCapability.SM89",
            "DynamicShapesKernelSpecializationStrategy.EAGER",
            "IExecutionContext.is_stream_capturable",
            "IRuntimeCache.deserialize",
            "IRuntimeConfig.create_runtime_cache",
        )
    ),
]


def test_the_versions_that_matter_are_recorded() -> None:
    assert set(recorded_versions()) == set(VERSIONS)


def test_the_record_is_of_the_package_that_is_installed() -> None:
    real = pytest.importorskip("tensorrt_rtx_bindings", reason="TensorRT-RTX is not installed")
    record = runpy.run_path(str(Path(__file__).parent / "tensorrt_api" / "record.py"))["record"]
    recorded = read_surface("rtx-1.7.1")
    if real.__version__ != recorded["version"]:
        pytest.skip(f"{recorded['version']} was recorded, {real.__version__} is installed")
    assert record(real) == recorded


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize(("name", "having"), FACTS, ids=[name for name, _ in FACTS])
def test_a_version_has_what_was_recorded_of_it_and_no_more(
    version: str, name: str, having: tuple[str, ...]
) -> None:
    found: Any = make(version)
    for part in name.split("."):
        if version not in having and not hasattr(found, part):
            return
        found = getattr(found, part)
    assert version in having


@pytest.mark.parametrize("version", VERSIONS)
def test_a_name_that_no_version_has_is_an_error_to_read_and_to_set(version: str) -> None:
    trt = make(version)
    logger = trt.Logger()
    uses: list[Callable[[], Any]] = [
        lambda: trt.BuilderFlags,
        lambda: trt.BuilderFlag.FP61,
        lambda: logger.min_severiti,
        lambda: setattr(logger, "min_severiti", trt.Logger.ERROR),
    ]
    for use in uses:
        with pytest.raises(AttributeError):
            use()


def test_a_call_that_pybind11_would_refuse_is_a_type_error() -> None:
    trt = make("10.3.0")
    for arguments in ((), (1,), (trt.Logger(), 1)):
        with pytest.raises(TypeError, match="incompatible function arguments"):
            trt.Builder(*arguments)
    with pytest.raises(TypeError, match="No constructor defined"):
        trt.IBuilderConfig()


@pytest.mark.parametrize("version", VERSIONS)
def test_a_property_is_set_where_the_version_lets_it_and_to_what_it_takes(version: str) -> None:
    trt = make(version)
    config = trt.Builder(trt.Logger()).create_builder_config()
    config.DLA_core = 1
    assert config.DLA_core == 1
    with pytest.raises(TypeError, match="DLA_core"):
        config.DLA_core = "1"
    with pytest.raises(AttributeError):
        config.num_optimization_profiles = 2
    # Of a strongly typed network the graph alone gives the types: 11 has no other.
    assert (trt.ITensor.dtype.fset is None) == (version in ("11.4.0", "rtx-1.7.1"))
    assert trt.IExecutionContext.device_memory.fget is None


def test_an_enum_is_equal_to_its_own_kind_alone_and_shifts_only_as_an_int() -> None:
    trt = make("10.3.0")
    assert trt.DataType.HALF == trt.float16 == trt.DataType(1)
    assert trt.DataType.HALF != 1 and trt.DataType.HALF.name == "HALF"
    assert trt.ILogger.ERROR < trt.ILogger.WARNING
    assert 1 << int(trt.BuilderFlag.INT8) == 1 << trt.BuilderFlag.INT8.value
    with pytest.raises(TypeError):
        1 << trt.BuilderFlag.INT8
    with pytest.raises(TypeError):
        trt.BuilderFlag.FP16 | trt.BuilderFlag.INT8


def test_a_shape_compares_to_lists_and_tuples_only() -> None:
    trt = make("8.6.0")
    dims = trt.Dims([2, -1])
    assert dims == (2, -1) and dims == [2, -1] and tuple(dims) == (2, -1) and dims[1:] == (-1,)
    with pytest.raises(TypeError, match="__eq__"):
        assert dims == trt.Dims([2, -1])
    with pytest.raises(TypeError):
        hash(dims)


def test_what_has_no_behaviour_says_so_and_names_itself() -> None:
    with pytest.raises(NotImplementedError, match="get_plugin_registry"):
        make("10.3.0").get_plugin_registry()


def test_a_logger_of_ones_own_must_be_initialised_as_the_real_one() -> None:
    trt = make("8.6.0")

    class Forgetful(trt.ILogger):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            self.messages: list[str] = []

    class Proper(Forgetful):
        def __init__(self) -> None:
            trt.ILogger.__init__(self)
            super().__init__()

    assert Proper().messages == []
    with pytest.raises(TypeError, match="__init__\\(\\) must be called"):
        Forgetful()
