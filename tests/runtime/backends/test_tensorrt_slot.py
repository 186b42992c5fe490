"""A slot of TensorRT: what it holds, captures and refuses."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import cast, get_args

import numpy as np
import pytest

from edgeunet.bundle.bundle import Bundle, open_bundle
from edgeunet.bundle.manifest import Filter
from edgeunet.errors import BackendError, FrameError, UsageError
from edgeunet.runtime.backends import create_backend
from edgeunet.runtime.backends.smoothing import Smoother
from edgeunet.runtime.frames import Batch, Frame
from edgeunet.runtime.gpu.frames import FramePool
from edgeunet.runtime.gpu.kernels import Kernels
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


# Frames that are on the device


@pytest.fixture
def pool(machine: GpuMachine) -> Iterator[FramePool]:
    with FramePool(0) as made:
        yield made


def there(machine: GpuMachine, pool: FramePool, frame: Frame) -> Frame:
    """The frame on the device."""
    height, width, _ = frame.shape
    on_device = pool.frame(height, width)
    machine.driver.at(on_device.address, on_device.nbytes)[:] = frame.ravel()
    return cast(Frame, on_device)


def test_frames_on_the_device_give_the_masks_of_those_on_the_host(
    machine: GpuMachine, bundle: Bundle, pool: FramePool
) -> None:
    plans = [[(0, True)], [(1, True), (2, False), (3, True)], [(4, False)], [(5, True), (6, True)]]
    images = [*frames(7, (50, 71))]
    with create_backend("tensorrt", bundle) as backend:
        wanted = [backend.segment(Batch.of([image])).masks[0] for image in images]
        for plan in plans:
            batch = Batch.of(
                [
                    there(machine, pool, images[which]) if device else images[which]
                    for which, device in plan
                ]
            )
            masks = backend.segment(batch).masks
            np.testing.assert_array_equal(masks, [wanted[which] for which, _ in plan])
        batches = (
            Batch.of([there(machine, pool, image), there(machine, pool, other)])
            for image, other in pairwise(images)
        )
        for which, result in enumerate(backend.stream(batches)):
            np.testing.assert_array_equal(result.masks, wanted[which : which + 2])
    assert pool.device.free_memory()  # it outlives the backend


def test_frames_of_several_sizes_may_be_there(
    machine: GpuMachine, bundle: Bundle, pool: FramePool
) -> None:
    images = [*frames(2, (50, 72)), *frames(2, (72, 50), 1)]
    with create_backend("tensorrt", bundle) as backend:
        wanted = [backend.segment(Batch.of([image])).masks[0] for image in images]
        mixed = Batch.of([there(machine, pool, image) for image in images])
        for each, mask in zip(backend.segment(mixed), wanted, strict=True):
            np.testing.assert_array_equal(each.mask, mask)


def test_frame_is_kept_until_its_copy_has_ended(
    machine: GpuMachine, bundle: Bundle, pool: FramePool, monkeypatch: pytest.MonkeyPatch
) -> None:
    image, other = frames(2, (64, 96))
    with create_backend("tensorrt", bundle) as backend:
        wanted = backend.segment(Batch.of([image])).masks
        given = there(machine, pool, other)
        with monkeypatch.context() as patch:
            patch.setattr(Kernels, "preprocess", fails)
            with pytest.raises(FrameError, match="too late"):
                backend.segment(Batch.of([given]))
        del given
        pool.close()
        assert machine.driver.queued  # the copy: the machine tells of memory that is freed before
        np.testing.assert_array_equal(backend.segment(Batch.of([image])).masks, wanted)
        assert not pool.device.resources


def fails(*_: object, **__: object) -> None:
    raise FrameError("too late")


def test_smoothing_downloads_frames(machine: GpuMachine, bundle: Bundle, pool: FramePool) -> None:
    images = frames(4, (64, 96))
    spec = bundle.manifest.input
    with create_backend("tensorrt", bundle) as backend:
        wanted, found = (
            [
                result.masks
                for result in backend.stream(map(Batch.of, batches), smoother=Smoother(spec, 0.5))
            ]
            for batches in (
                [[image] for image in images],
                [[there(machine, pool, image)] for image in images],
            )
        )
    np.testing.assert_array_equal(found, wanted)
