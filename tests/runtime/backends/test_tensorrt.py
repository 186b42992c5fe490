"""The TensorRT backend on a simulated GPU, with stand-ins of several versions of TensorRT."""

from __future__ import annotations

import re
import shutil
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeunet.bundle.bundle import Bundle, open_bundle
from edgeunet.bundle.manifest import InputSpec
from edgeunet.bundle.steps import ImageStatistics
from edgeunet.errors import BackendError
from edgeunet.runtime import load
from edgeunet.runtime.backends import Backend, create_backend
from edgeunet.runtime.backends.tensorrt import TensorRTBackend
from edgeunet.runtime.frames import Batch
from edgeunet.runtime.options import LoadOptions
from support import fake_tensorrt
from support.commands import fails, names, succeeds
from support.gpu_machine import GpuMachine, frames, gpu_machine

SIZES = [(64, 96), (50, 71), (1, 1), (130, 200)]


@pytest.fixture(scope="module")
def bundle(fp32_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    copy = tmp_path_factory.mktemp("trt") / "bundle"  # engines are written into it
    return open_bundle(shutil.copytree(fp32_bundle, copy))


@pytest.fixture(scope="module")
def reference(bundle: Bundle) -> Iterator[Backend]:
    with create_backend("onnxruntime", bundle) as created:
        yield created


@pytest.fixture
def machine() -> Iterator[GpuMachine]:
    with gpu_machine() as made:
        yield made


def assert_near(found: np.ndarray, wanted: np.ndarray) -> None:
    """Masks of two computations in FP32: a tie may fall either way."""
    assert found.shape == wanted.shape
    assert np.mean(found != wanted) <= 1e-3


# Streams


@pytest.mark.parametrize("integrated", [False, True], ids=["discrete", "integrated"])
@settings(max_examples=10)
@given(plan=st.lists(st.tuples(st.integers(1, 4), st.sampled_from(SIZES)), max_size=9))
def test_stream_gives_the_masks_of_each_batch(
    bundle: Bundle, reference: Backend, integrated: bool, plan: list[tuple[int, tuple[int, int]]]
) -> None:
    batches = [frames(count, size, seed) for seed, (count, size) in enumerate(plan)]
    with (
        gpu_machine(integrated=integrated) as machine,
        create_backend("tensorrt", bundle) as backend,
    ):
        results = list(backend.stream(map(Batch.of, batches)))
        assert len(results) == len(batches)
        for batch, result in zip(batches, results, strict=True):
            assert_near(result.masks, reference.segment(Batch.of(batch)).masks)
            np.testing.assert_array_equal(result.masks, backend.segment(Batch.of(batch)).masks)
    assert machine.driver.memory == machine.driver.pinned == 0


def test_frames_that_no_kernel_measures_are_prepared_on_the_cpu(
    machine: GpuMachine, bundle: Bundle
) -> None:
    spec = replace(bundle.manifest.input, statistics=ImageStatistics())
    measured = replace(bundle, manifest=replace(bundle.manifest, input=spec))
    told: list[str] = []
    with (
        create_backend("onnxruntime", measured) as cpu,
        TensorRTBackend(measured, report=told.append) as gpu,
    ):
        batches = [frames(2, (50, 71), seed) for seed in range(3)]
        wanted = [cpu.segment(Batch.of(batch)).masks for batch in batches]
        assert_near(gpu.segment(Batch.of(batches[0])).masks, wanted[0])
        streamed = [result.masks for result in gpu.stream(map(Batch.of, batches))]
        assert_near(np.stack(streamed), np.stack(wanted))
    (note,) = [each for each in told if "no CUDA kernel measures images" in each]
    assert "mean and deviation of each channel" in note and "the net on the GPU" in note


def test_streams_leave_no_memory_behind(machine: GpuMachine, bundle: Bundle) -> None:
    with create_backend("tensorrt", bundle) as backend:
        backend.segment(Batch.of(frames(2, (64, 96))))
        before = machine.driver.memory, machine.driver.pinned
        for _ in range(3):
            results = backend.stream(Batch.of(frames(2, (64, 96), seed)) for seed in range(9))
            next(results)
            results.close()
        assert (machine.driver.memory, machine.driver.pinned) == before


def test_consumer_that_leaves_early_leaves_nothing_running(
    machine: GpuMachine, bundle: Bundle
) -> None:
    given: list[int] = []

    def endless() -> Iterator[Batch]:
        while True:
            given.append(0)
            yield Batch.of(frames(1, (64, 96)))

    with create_backend("tensorrt", bundle) as backend:
        results = backend.stream(endless())
        next(results)
        results.close()
        count = len(given)
    assert len(given) == count < 10


def test_several_threads_may_segment(machine: GpuMachine, bundle: Bundle) -> None:
    with create_backend("tensorrt", bundle) as backend:
        wanted = [backend.segment(Batch.of(frames(2, (64, 96), seed))).masks for seed in range(8)]
        found: dict[int, np.ndarray] = {}

        def work(seed: int) -> None:
            found[seed] = backend.segment(Batch.of(frames(2, (64, 96), seed))).masks

        threads = [threading.Thread(target=work, args=(seed,)) for seed in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    for seed in range(8):
        np.testing.assert_array_equal(found[seed], wanted[seed])


# Engines


def test_engine_is_built_on_first_use_and_kept(
    machine: GpuMachine, fp32_bundle: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    copy = shutil.copytree(fp32_bundle, tmp_path / "bundle")
    with load(copy) as segmenter:
        assert segmenter.backend.name == "tensorrt"
        segmenter.self_check()
    assert "building orin-sm87-trt10.3.0-fp32.engine: there is none yet" in caplog.text
    caplog.clear()
    with load(copy):
        assert caplog.text == ""
    (plan,) = (copy / "engines").glob("*.engine")
    plan.write_bytes(plan.read_bytes()[:100])
    with load(copy) as segmenter:
        assert re.search(r"building .* has SHA-256 \w+…, its sidecar says", caplog.text)
        segmenter.self_check()


@pytest.mark.parametrize("version", fake_tensorrt.recorded_versions())
def test_golden_frames_agree_in_every_version(bundle: Bundle, version: str) -> None:
    name = "rtx" if version.startswith("rtx-") else "tensorrt"
    with gpu_machine(version), load(bundle.root, name) as segmenter:
        assert segmenter.self_check() > 0.999


def test_dla_computes_its_one_batch_size(int8_bundle: Path, tmp_path: Path) -> None:
    copy = open_bundle(shutil.copytree(int8_bundle, tmp_path / "bundle")).at("fp16")
    with gpu_machine() as machine:
        machine.trt.scenario.dla_cores = 2
        with create_backend("tensorrt", copy) as gpu:
            wanted = gpu.segment(Batch.of(frames(2, (64, 96)))).masks
        with create_backend("tensorrt", copy, LoadOptions(dla=1)) as backend:
            found = backend.segment(Batch.of(frames(2, (64, 96)))).masks
        assert machine.trt.dla_cores_loaded == [1]
    np.testing.assert_array_equal(found, wanted)


@pytest.mark.parametrize("backend", ["auto", "tensorrt"])
def test_commands_run_the_engine_that_build_made_for_a_dla(
    int8_bundle: Path, tmp_path: Path, backend: str
) -> None:
    copy = shutil.copytree(int8_bundle, tmp_path / "bundle")
    cv2.imwrite(str(tmp_path / "frame.png"), frames(1, (64, 96))[0])
    with gpu_machine() as machine:
        machine.trt.scenario.dla_cores = 2
        succeeds("build", copy, "--runtime", "tensorrt", "--dla", 1)
        built = names(copy / "engines")
        common = ("--backend", backend, "--dla", 1, "--device", 0)
        ran = succeeds("run", copy, tmp_path / "frame.png", *common)
        timed = succeeds("bench", copy, "--repeats", 2, *common)
        assert names(copy / "engines") == built
    assert [name for name in built if name.endswith("-dla1.engine")]
    assert "frames/s on tensorrt" in ran.stdout
    assert "on tensorrt, frames" in timed.stdout


@pytest.mark.parametrize("command", ["run", "bench", "serve"])
def test_options_of_a_gpu_reach_it_and_are_refused_by_other_backends(
    machine: GpuMachine, int8_bundle: Path, tmp_path: Path, command: str
) -> None:
    copy = shutil.copytree(int8_bundle, tmp_path / "bundle")
    cv2.imwrite(str(tmp_path / "frame.png"), frames(1, (64, 96))[0])
    source = () if command == "bench" else (tmp_path / "frame.png",)
    port = ("--port", 0) if command == "serve" else ()
    call = (command, copy, *source, *port)
    assert "there is no GPU 3" in fails(1, *call, "--backend", "tensorrt", "--device", 3)
    assert "there is no DLA core 0" in fails(2, *call, "--dla", 0)
    told = fails(2, *call, "--backend", "onnxruntime", "--dla", 0)
    assert "backend onnxruntime has no dla; it takes provider, device, threads." in told
    told = fails(2, *call, "--backend", "onnxruntime", "--device", 0)
    assert "device is 0, but ONNX Runtime runs on the CPU" in told


# Faults


def test_engine_that_does_not_fit_the_manifest_is_refused(
    machine: GpuMachine, bundle: Bundle
) -> None:
    """The kernels would read and write behind its buffers."""
    for change in ({"logits_size": (64, 48)}, {"input": InputSpec(64, 128)}):
        other = replace(bundle, manifest=replace(bundle.manifest, **change))
        with pytest.raises(BackendError, match="does not fit the manifest of its bundle"):
            create_backend("tensorrt", other)
    assert machine.driver.memory == machine.driver.count("retained") == 0


def test_gpu_lost_midway_is_told(machine: GpuMachine, bundle: Bundle) -> None:
    with create_backend("tensorrt", bundle) as backend:
        results = backend.stream(Batch.of(frames(1, (64, 96), seed)) for seed in range(20))
        next(results)
        machine.driver.lost = True
        with pytest.raises(BackendError, match=r"launch failure.*restart the program"):
            list(results)


def test_auto_goes_on_without_the_gpu_that_was_lost(
    machine: GpuMachine, bundle: Bundle, reference: Backend, caplog: pytest.LogCaptureFixture
) -> None:
    batches = [frames(2, (64, 96), seed) for seed in range(12)]
    with create_backend("auto", bundle) as backend:
        assert backend.name == "tensorrt"
        results = backend.stream(map(Batch.of, batches))
        found = [next(results).masks for _ in range(4)]
        machine.driver.lost = True
        found += [result.masks for result in results]
        assert backend.name == "onnxruntime"
    assert len(found) == len(batches)
    for masks, batch in zip(found, batches, strict=True):
        assert_near(masks, reference.segment(Batch.of(batch)).masks)
    assert re.search(r"launch failure.* Going on with ONNX Runtime on the CPU\.", caplog.text)


def test_a_lost_gpu_without_onnx_runtime_is_the_same_error_each_time(
    machine: GpuMachine,
    bundle: Bundle,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    with create_backend("auto", bundle) as backend:
        backend.segment(Batch.of(frames(1, (64, 96))))
        monkeypatch.delitem(sys.modules, "edgeunet.runtime.backends.ort")
        monkeypatch.setitem(sys.modules, "onnxruntime", None)
        machine.driver.lost = True
        for _ in range(3):
            with pytest.raises(
                BackendError,
                match=r"launch failure.* There is no fallback: onnxruntime is not",
            ):
                backend.segment(Batch.of(frames(1, (64, 96))))
    assert "Going on" not in caplog.text


def test_auto_without_a_gpu_says_so(bundle: Bundle, caplog: pytest.LogCaptureFixture) -> None:
    with gpu_machine(devices=0), create_backend("auto", bundle) as backend:
        assert backend.name == "onnxruntime"
    assert (
        "CUDA does not start: cuInit failed with CUDA error 100: no CUDA-capable device is detected"
        in caplog.text
    )
