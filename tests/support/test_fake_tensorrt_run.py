"""The stand-in for TensorRT runs plans, and refuses them, as the real one."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
import onnxruntime as ort
import pytest
from hypothesis import given
from hypothesis import strategies as st

from support import fake_tensorrt
from support.fake_tensorrt import OUT_OF_MEMORY, Scenario
from support.trt_builds import Build, aligned, graph, loaded, plan_of

VERSIONS = fake_tensorrt.recorded_versions()
RTX = "rtx-1.7.1"
WEAK = [version for version in VERSIONS if version not in ("11.4.0", RTX)]


def bound(context: Any, images: np.ndarray[Any, Any], logits: np.ndarray[Any, Any]) -> None:
    assert context.set_input_shape("image", images.shape)
    assert context.set_tensor_address("image", images.ctypes.data)
    assert context.set_tensor_address("logits", logits.ctypes.data)


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_a_plan_gives_the_numbers_of_onnx_runtime(version: str, precision: str) -> None:
    trt = fake_tensorrt.make(version)
    content = graph(precision)
    engine, _ = loaded(trt, plan_of(trt, content, strong=version != "8.6.0"))
    kind = {"fp32": np.float32, "fp16": np.float16}[precision]
    images, logits = aligned((3, 3, 4, 6), kind), aligned((3, 3, 4, 6), kind)
    images[...] = np.linspace(-2, 2, images.size).reshape(images.shape)
    context = engine.create_execution_context()
    bound(context, images, logits)
    assert tuple(context.get_tensor_shape("logits")) == logits.shape
    assert context.execute_async_v3(1)
    session = ort.InferenceSession(content, providers=["CPUExecutionProvider"])
    wanted = session.run(None, {"image": np.array(images)})[0]
    # Fused or not, it rounds elsewhere.
    tolerance = {"fp32": 1e-5, "fp16": 4e-3}[precision]
    np.testing.assert_allclose(logits, wanted, rtol=0, atol=tolerance)


@pytest.mark.parametrize("version", WEAK)
def test_inputs_and_outputs_set_to_half_are_read_and_written_as_half(version: str) -> None:
    trt = fake_tensorrt.make(version)
    build = Build(trt)
    build.add_profile()
    build.network.get_input(0).dtype = trt.float16
    build.network.get_output(0).dtype = trt.float16
    engine, _ = loaded(trt, bytes(build.run()))
    assert engine.get_tensor_dtype("image") == engine.get_tensor_dtype("logits") == trt.float16
    images, logits = aligned((1, 3, 4, 6), np.float16), aligned((1, 3, 4, 6), np.float16)
    images[...] = np.linspace(-2, 2, images.size).reshape(images.shape)
    context = engine.create_execution_context()
    bound(context, images, logits)
    assert context.execute_async_v3(0)
    session = ort.InferenceSession(graph(), providers=["CPUExecutionProvider"])
    expected = session.run(None, {"image": images.astype(np.float32)})[0]
    assert np.array_equal(logits, expected.astype(np.float16))


@pytest.mark.parametrize("version", VERSIONS)
def test_an_engine_tells_its_tensors_and_its_profile(version: str) -> None:
    trt = fake_tensorrt.make(version)
    engine, log = loaded(trt, plan_of(trt))
    names = [engine.get_tensor_name(index) for index in range(engine.num_io_tensors)]
    assert names == ["image", "logits"]
    modes = [engine.get_tensor_mode(name) for name in names]
    assert modes == [trt.TensorIOMode.INPUT, trt.TensorIOMode.OUTPUT]
    assert engine.get_tensor_shape("logits") == (-1, 3, 4, 6)
    least, best, most = engine.get_tensor_profile_shape("image", 0)
    assert (least, best, most) == ((1, 3, 4, 6), (4, 3, 4, 6), (4, 3, 4, 6))
    assert engine.get_tensor_mode("other") == trt.TensorIOMode.NONE and log.errors


def test_work_runs_when_the_stream_does_with_the_shapes_and_addresses_of_the_call() -> None:
    trt = fake_tensorrt.make("10.3.0")
    queue: list[tuple[int, Callable[[], None]]] = []
    trt.enqueue = lambda stream, work: queue.append((stream, work))  # type: ignore[attr-defined]
    engine, _ = loaded(trt, plan_of(trt))
    context = engine.create_execution_context()
    images, first, second = (aligned((2, 3, 4, 6), np.float32) for _ in range(3))
    bound(context, images, first)
    assert context.execute_async_v3(7)
    bound(context, images[:1], second)
    images[...] = 1  # read when the work runs, not before
    assert not first.any()
    ((stream, work),) = queue
    work()
    assert stream == 7 and first.any() and not second.any()


def test_a_context_refuses_what_was_not_set_or_does_not_fit() -> None:
    trt = fake_tensorrt.make("8.6.0")
    engine, log = loaded(trt, plan_of(trt))
    context = engine.create_execution_context()
    images, logits = aligned((4, 3, 4, 6), np.float32), aligned((4, 3, 4, 6), np.float32)

    def words(answer: bool) -> str:
        assert answer is False
        return str(log.errors[-1])

    assert context.infer_shapes() == ["image"]
    assert "Not all shapes are specified" in words(context.execute_async_v3(0))
    assert "Valid range for profile 0: [1,3,4,6]..[4,3,4,6]" in words(
        context.set_input_shape("image", (5, 3, 4, 6))
    )
    assert "Static dimension mismatch" in words(context.set_input_shape("image", (1, 3, 4, 5)))
    assert "invalid tensor name: other" in words(context.set_input_shape("other", (1,)))
    assert "no input" in words(context.set_input_shape("logits", (1, 3, 4, 6)))
    assert "aligned" in words(context.set_tensor_address("image", images.ctypes.data + 4))
    with pytest.raises(RuntimeError, match="Error in set optimization profile"):
        context.set_optimization_profile_async(1, 0)
    assert "no profile 1" in log.errors[-1]
    assert context.set_input_shape("image", images.shape)
    assert "input tensor image" in words(context.execute_async_v3(0))
    bound(context, images, logits)
    assert context.set_tensor_address("logits", 0)
    assert "output tensor logits" in words(context.execute_async_v3(0))
    with pytest.raises(TypeError):
        context.set_tensor_address("image", None)
    trt.scenario.enqueue_errors = ("an illegal memory access was encountered",)
    bound(context, images, logits)
    assert "illegal memory access" in words(context.execute_async_v3(0))


def test_only_the_first_context_has_its_profile_from_the_start() -> None:
    trt = fake_tensorrt.make("10.3.0")
    engine, log = loaded(trt, plan_of(trt))
    first, second = (engine.create_execution_context() for _ in range(2))
    assert first.set_input_shape("image", (1, 3, 4, 6))
    assert not second.set_input_shape("image", (1, 3, 4, 6))
    assert "no optimization profile was chosen" in log.errors[-1]
    assert second.set_optimization_profile_async(0, 0)
    assert second.set_input_shape("image", (1, 3, 4, 6))


@pytest.mark.parametrize("version", VERSIONS)
def test_a_context_without_memory_of_its_own_waits_for_it(version: str) -> None:
    trt = fake_tensorrt.make(version)
    engine, log = loaded(trt, plan_of(trt))
    if version == "8.6.0":
        context = engine.create_execution_context_without_device_memory()
        size = engine.device_memory_size
    else:
        strategy = trt.ExecutionContextAllocationStrategy.USER_MANAGED
        context = engine.create_execution_context(strategy)
        size = engine.device_memory_size_v2
    images, logits = aligned((1, 3, 4, 6), np.float32), aligned((1, 3, 4, 6), np.float32)
    bound(context, images, logits)
    assert not context.execute_async_v3(0) and "device memory" in log.errors[-1]
    lent = np.zeros(size, np.uint8)
    if version == "8.6.0":
        context.device_memory = lent.ctypes.data
    else:
        context.set_device_memory(lent.ctypes.data, size - 1)
        assert not context.execute_async_v3(0)
        context.set_device_memory(lent.ctypes.data, size)
    assert context.execute_async_v3(0)


def test_a_context_may_fail_to_be_made() -> None:
    trt = fake_tensorrt.make("10.3.0", Scenario(context_errors=OUT_OF_MEMORY))
    engine, log = loaded(trt, plan_of(trt))
    assert engine.create_execution_context() is None and log.errors == list(OUT_OF_MEMORY)


# Plans


@cache
def plan_of_10_3() -> bytes:
    return plan_of(fake_tensorrt.make("10.3.0"))


@given(data=st.data())
def test_a_plan_cut_short_or_altered_does_not_load(data: Any) -> None:
    plan = plan_of_10_3()
    place = data.draw(st.integers(0, len(plan) - 1))
    altered = plan[:place]
    if len(plan) - place < 200 and data.draw(st.booleans()):  # in the graph
        altered += bytes([plan[place] ^ 1]) + plan[place + 1 :]
    engine, log = loaded(fake_tensorrt.make("10.3.0"), altered)
    assert engine is None and "deserializeCudaEngine" in log.errors[0]


def test_a_plan_of_another_version_or_card_does_not_load() -> None:
    trt = fake_tensorrt.make("10.16.1")
    engine, log = loaded(trt, plan_of_10_3())
    assert engine is None and "not compatible with this version" in log.errors[0]
    trt = fake_tensorrt.make("10.3.0", Scenario(capability="sm101"))
    engine, log = loaded(trt, plan_of_10_3())
    assert engine is None and "expecting compute 10.1 got compute 8.7" in log.errors[0]
    trt.scenario = Scenario(refuses_plan="out of memory")
    engine, log = loaded(trt, plan_of_10_3())
    assert engine is None and "out of memory" in log.errors[0]


# TensorRT-RTX


def rtx_engine(trt: Any, *flags: str) -> Any:
    """An engine for sm86 and sm89."""
    build = Build(trt)
    build.add_profile()
    build.config.num_compute_capabilities = 2
    for index, target in enumerate(("SM86", "SM89")):
        build.config.set_compute_capability(getattr(trt.ComputeCapability, target), index)
    for flag in flags:
        build.config.set_flag(getattr(trt.BuilderFlag, flag))
    return loaded(trt, bytes(build.run()))


@pytest.mark.parametrize(("capability", "fits"), [("sm86", True), ("sm89", True), ("sm120", False)])
def test_a_plan_of_rtx_loads_on_its_targets(capability: str, fits: bool) -> None:
    engine, log = rtx_engine(fake_tensorrt.make(RTX, Scenario(capability=capability)))
    assert (engine is not None) == fits
    assert fits or "expecting compute 12.0 got compute 8.6, 8.9" in log.errors[0]


def test_rtx_builds_without_a_gpu_and_loads_nothing() -> None:
    engine, log = rtx_engine(fake_tensorrt.make(RTX, Scenario(gpu=False)))
    assert engine is None and "CUDA driver version is insufficient" in log.errors[0]


def run_once(trt: Any, engine: Any, config: Any, batch: int) -> Any:
    shape = (batch, 3, 4, 6)
    context = engine.create_execution_context(runtime_config=config)
    assert context.set_optimization_profile_async(0, 0)
    bound(context, aligned(shape, np.float32), aligned(shape, np.float32))
    assert context.execute_async_v3(0) and context.execute_async_v3(0)
    return context


def test_what_a_cache_holds_is_not_compiled_again() -> None:
    trt = fake_tensorrt.make(RTX)
    engine, _ = rtx_engine(trt)
    for batch in (1, 1, 2):
        run_once(trt, engine, None, batch)
    assert len(trt.compiled) == 3
    config = engine.create_runtime_config()
    cache = config.create_runtime_cache()
    assert config.set_runtime_cache(cache) and config.get_runtime_cache() is cache
    for batch in (1, 1, 2):
        run_once(trt, engine, config, batch)
    assert len(trt.compiled) == 5
    kept = bytes(cache.serialize())
    assert cache.reset() and bytes(cache.serialize()) != kept
    assert not cache.deserialize(kept[:-3]) and not cache.deserialize(b"garbage")
    trt.scenario.card = "another"
    assert not cache.deserialize(kept)
    trt.scenario.card = "NVIDIA GeForce RTX 4090"
    assert cache.deserialize(kept)
    run_once(trt, engine, config, 1)
    assert len(trt.compiled) == 5


@pytest.mark.parametrize("flags", [(), ("REQUIRE_USER_ALLOCATION",)])
@pytest.mark.parametrize("strategy", ["LAZY", "EAGER", "NONE"])
def test_a_stream_is_captured_where_nothing_is_allocated_or_replaced(
    flags: tuple[str, ...], strategy: str
) -> None:
    trt = fake_tensorrt.make(RTX)
    engine, _ = rtx_engine(trt, *flags)
    config = engine.create_runtime_config()
    strategies = trt.DynamicShapesKernelSpecializationStrategy
    config.dynamic_shapes_kernel_specialization_strategy = getattr(strategies, strategy)
    context = run_once(trt, engine, config, 1)
    assert context.is_stream_capturable(1) == (bool(flags) and strategy != "LAZY")
