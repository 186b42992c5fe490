"""The recorded surfaces of TensorRT, and the stand-in that is made of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from fake_tensorrt import make, recorded_versions

VERSIONS = ("8.6.0", "10.3.0", "10.16.1", "11.4.0")

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
    ("IProgressMonitor", VERSIONS[1:]),
    ("ParserError.node_name", VERSIONS[1:]),
    *((f"TacticSource.{source}", VERSIONS[:3]) for source in ("CUBLAS", "CUBLAS_LT", "CUDNN")),
]


def test_the_versions_that_matter_are_recorded() -> None:
    assert set(recorded_versions()) == set(VERSIONS)


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
