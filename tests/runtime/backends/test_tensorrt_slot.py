"""A slot of TensorRT: what it holds, captures and refuses."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from edgeunet.bundle.bundle import Bundle, open_bundle
from edgeunet.errors import BackendError, FrameError, UsageError
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


# Streams


def test_what_was_returned_does_not_change(machine: GpuMachine, bundle: Bundle) -> None:
    with create_backend("tensorrt", bundle) as backend:
        first = backend.segment(Batch.of(frames(2, (64, 96), 1))).masks
        kept = first.copy()
        backend.segment(Batch.of(frames(2, (64, 96), 2)))
        np.testing.assert_array_equal(first, kept)


# CUDA graphs


def test_each_batch_size_is_captured_once(machine: GpuMachine, bundle: Bundle) -> None:
    with create_backend("tensorrt", bundle) as backend:
        for count in (1, 3, 1, 3, 1):
            backend.segment(Batch.of(frames(count, (64, 96))))
        assert len(machine.driver.streams.graphs) == 2
        assert machine.driver.streams.launched == 5


# Faults


@pytest.mark.parametrize("count", [0, 5])
def test_batch_that_has_no_room_is_refused_before_it_is_copied(
    machine: GpuMachine, bundle: Bundle, count: int
) -> None:
    with create_backend("tensorrt", bundle) as backend:
        images = np.zeros((count, 3, 64, 96), np.float32)
        for call in (
            lambda: backend.segment(Batch.of(frames(count, (64, 96)))),
            lambda: backend.net.infer(images),
        ):
            # No frame at all is not even a batch.
            words = f"expected a batch of 1 to 4, got {count}|expected frames of one size, got none"
            with pytest.raises((UsageError, FrameError), match=words):
                call()
        assert all(not queue.waiting for queue in machine.driver.streams.queues.values())


def test_too_little_device_memory_is_told_and_nothing_stays(bundle: Bundle) -> None:
    with gpu_machine(capacity=1_000_000) as machine:
        machine.trt.scenario.device_memory = 2_000_000
        with pytest.raises(BackendError, match=r"ran out of memory while allocating 2 MB.*--max-b"):
            create_backend("tensorrt", bundle)
        assert machine.driver.memory.used == machine.driver.retained == 0
