"""A slot of TensorRT: what it holds, captures and refuses."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import get_args

import numpy as np
import pytest

from edgeunet.bundle.bundle import Bundle, open_bundle
from edgeunet.bundle.manifest import Filter
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


# Filters


@pytest.mark.parametrize("integrated", [False, True], ids=["discrete", "integrated"])
@pytest.mark.parametrize("how", get_args(Filter))
def test_tables_follow_the_size_of_the_frames(
    bundle: Bundle, how: Filter, integrated: bool
) -> None:
    spec = replace(bundle.manifest.input, filter=how)
    filtered = replace(bundle, manifest=replace(bundle.manifest, input=spec))
    sizes = [(64, 96), (130, 200), (130, 200), (50, 71), (130, 200)]
    batches = [frames(2, size, seed) for seed, size in enumerate(sizes)]
    mixed = Batch.of([batches[0][0], batches[3][0], batches[1][0], batches[3][1]])
    with (
        create_backend("onnxruntime", filtered) as reference,
        gpu_machine(integrated=integrated),
        create_backend("tensorrt", filtered) as backend,
    ):
        wanted = [reference.segment(Batch.of(batch)).masks for batch in batches]
        found = [backend.segment(Batch.of(batch)).masks for batch in batches]
        streamed = [batch.masks for batch in backend.stream(map(Batch.of, batches))]
        for each in backend.segment(mixed):
            alone = reference.segment(Batch([each.frame])).masks[0]
            assert np.mean(each.mask != alone) <= 1e-3
    for masks in (found, streamed):
        for here, there in zip(masks, wanted, strict=True):
            assert np.mean(here != there) <= 1e-3


# CUDA graphs


def test_each_batch_size_is_captured_once(machine: GpuMachine, bundle: Bundle) -> None:
    with create_backend("tensorrt", bundle) as backend:
        for count in (1, 3, 1, 3, 1):
            backend.segment(Batch.of(frames(count, (64, 96))))
        assert machine.driver.graphs == 2
        assert machine.driver.launched == 5


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
        assert machine.driver.queued == 0


def test_too_little_device_memory_is_told_and_nothing_stays(bundle: Bundle) -> None:
    with gpu_machine(capacity=1_000_000) as machine:
        machine.trt.scenario.device_memory = 2_000_000
        with pytest.raises(BackendError, match=r"ran out of memory while allocating 2 MB.*--max-b"):
            create_backend("tensorrt", bundle)
        assert machine.driver.memory == machine.driver.count("retained") == 0
