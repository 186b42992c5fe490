"""Frames on a GPU: what they are to others, and when their memory is used again and freed."""

from __future__ import annotations

import gc
import threading
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import pytest

from edgeunet.errors import BackendError
from edgeunet.runtime.gpu.frames import DeviceFrame, FramePool
from support.fake_cuda import FakeCuda

SIZE = (6, 10)
NBYTES = 6 * 10 * 3


@pytest.fixture
def cuda() -> Iterator[FakeCuda]:
    with FakeCuda() as made:
        yield made


def filled(cuda: FakeCuda, frame: DeviceFrame, seed: int = 0) -> npt.NDArray[np.uint8]:
    """Noise in a frame."""
    values = np.random.default_rng(seed).integers(0, 256, frame.shape, np.uint8)
    cuda.at(frame.address, frame.nbytes)[:] = values.ravel()
    return values


def test_frame_has_the_form_of_an_array_and_becomes_one(cuda: FakeCuda) -> None:
    with FramePool(0) as pool:
        frame = pool.frame(*SIZE)
        values = filled(cuda, frame)
        array = np.asarray(frame)
        np.testing.assert_array_equal(array, values)
        for name in ("shape", "dtype", "ndim", "size", "nbytes"):
            assert getattr(frame, name) == getattr(array, name)
        assert np.asarray(frame, np.float32).dtype == np.float32
        filled(cuda, frame, 1)
        np.testing.assert_array_equal(array, values)  # a copy
        with pytest.raises(ValueError, match="is copied"):
            frame.__array__(copy=False)
        del frame


def test_others_take_it_by_the_cuda_array_interface(cuda: FakeCuda) -> None:
    with FramePool(0) as pool:
        interface = pool.frame(*SIZE).__cuda_array_interface__
    assert interface["shape"] == (*SIZE, 3)
    assert interface["typestr"] == "|u1"
    assert interface["version"] == 3
    _, read_only = interface["data"]
    assert read_only


def test_memory_is_used_again_once_nothing_refers_to_a_frame(cuda: FakeCuda) -> None:
    with FramePool(0) as pool:
        first, second = pool.frame(*SIZE), pool.frame(*SIZE)
        kept = filled(cuda, first)
        assert first.address != second.address
        assert cuda.memory == 2 * NBYTES
        place = second.address
        del second
        assert pool.frame(*reversed(SIZE)).address == place
        np.testing.assert_array_equal(np.asarray(first), kept)
        for _ in range(10):
            pool.frame(*SIZE)
        assert cuda.memory <= 3 * NBYTES  # and what downloads go by
        del first


def test_frames_outlive_their_pool(cuda: FakeCuda) -> None:
    pool = FramePool(0)
    first, second = pool.frame(*SIZE), pool.frame(*SIZE)
    values = filled(cuda, second)
    pool.close()
    pool.close()
    del first
    np.testing.assert_array_equal(np.asarray(second), values)
    assert cuda.left
    del second
    gc.collect()
    assert not cuda.left


def test_pool_that_gave_no_frame_frees_its_device(cuda: FakeCuda) -> None:
    FramePool(0).close()
    assert not cuda.left


def test_full_memory_is_told_and_leaves_nothing() -> None:
    with FakeCuda(capacity=3 * NBYTES) as cuda:
        with FramePool(0) as pool:
            frames = [pool.frame(*SIZE) for _ in range(3)]
            with pytest.raises(BackendError, match="ran out of memory while allocating"):
                pool.frame(*SIZE)
            del frames
            pool.frame(*SIZE)
        assert not cuda.left


def test_gpu_that_is_lost_is_told(cuda: FakeCuda) -> None:
    with FramePool(0) as pool:
        frame = pool.frame(*SIZE)
        cuda.lost = True
        with pytest.raises(BackendError, match="CUDA failed while allocating"):
            np.asarray(frame)
        cuda.lost = False
        del frame


def test_threads_download_and_give_back_at_once(cuda: FakeCuda) -> None:
    wrong: list[int] = []

    def work(seed: int) -> None:
        for turn in range(20):
            frame = pool.frame(*SIZE)
            values = filled(cuda, frame, 100 * seed + turn)
            if not np.array_equal(np.asarray(frame), values):
                wrong.append(seed)

    with FramePool(0) as pool:
        threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert not wrong
        assert cuda.memory <= (2 * len(threads) + 1) * NBYTES
