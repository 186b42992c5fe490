"""Engines that are loaded and run."""

from __future__ import annotations

import logging
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from edgeunet.bundle.bundle import Bundle, open_bundle
from edgeunet.errors import BackendError, EngineError
from edgeunet.runtime.backends import create_backend
from edgeunet.runtime.frames import Batch
from support.gpu_machine import GpuMachine, frames, gpu_machine


@pytest.fixture(scope="module")
def bundle(fp32_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    copy = tmp_path_factory.mktemp("trt") / "bundle"  # engines are written into it
    return open_bundle(shutil.copytree(fp32_bundle, copy))


@pytest.fixture
def machine() -> Iterator[GpuMachine]:
    with gpu_machine() as made:
        yield made


# CUDA graphs


def test_engine_that_cannot_be_captured_runs_without(
    machine: GpuMachine, bundle: Bundle, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    with create_backend("tensorrt", bundle) as backend:
        wanted = [backend.segment(Batch.of(frames(n, (64, 96), n))).masks for n in (1, 2)]
    machine.driver.refuse_captures()
    with create_backend("tensorrt", bundle) as backend:
        for _ in range(2):
            for count, masks in zip((1, 2), wanted, strict=True):
                found = backend.segment(Batch.of(frames(count, (64, 96), count))).masks
                np.testing.assert_array_equal(found, masks)
    assert "runs without a CUDA graph" in caplog.text


# Faults


def test_engine_that_tensorrt_refuses_is_built_again_and_then_told(
    machine: GpuMachine, bundle: Bundle, caplog: pytest.LogCaptureFixture
) -> None:
    with create_backend("tensorrt", bundle):
        pass
    caplog.clear()
    machine.trt.scenario.refuses_plan = "Serialization assertion failed"
    with pytest.raises(EngineError, match=r"TensorRT rejected .*Serialization assertion failed"):
        create_backend("tensorrt", bundle)
    assert "Serialization assertion failed. It is built again." in caplog.text
    assert machine.driver.memory == machine.driver.count("retained") == 0


def test_failed_run_carries_tensorrts_words(machine: GpuMachine, bundle: Bundle) -> None:
    with create_backend("tensorrt", bundle) as backend:
        machine.trt.scenario.enqueue_errors = ("Myelin graph execution failed",)
        with pytest.raises(BackendError, match="Myelin graph execution failed"):
            backend.segment(Batch.of(frames(1, (64, 96))))


def test_a_driver_that_is_too_old_is_told_and_no_engine_is_built_again(
    machine: GpuMachine, bundle: Bundle, caplog: pytest.LogCaptureFixture
) -> None:
    with create_backend("tensorrt", bundle):
        pass
    caplog.clear()
    machine.trt.scenario.gpu = False
    told = r"cannot start its runtime: CUDA initialization failure with error: 35\. .*update the"
    with pytest.raises(BackendError, match=told):
        create_backend("tensorrt", bundle)
    assert caplog.text == ""
    assert machine.driver.memory == machine.driver.count("retained") == 0
    with create_backend("auto", bundle) as backend:
        assert backend.name == "onnxruntime"
    assert re.search(rf"{told}.*Going on with ONNX Runtime", caplog.text)
