"""Streams of live sources: what is dropped is counted, and every way to end one ends all of it."""

from __future__ import annotations

import gc
import os
import signal
import threading
import time
import weakref
from collections.abc import Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import pytest

from edgeunet.bundle.bundle import Bundle
from edgeunet.errors import BackendError, SourceError, UsageError
from edgeunet.runtime import Segmenter, load, open_bundle
from edgeunet.runtime.backends.base import NetBackend
from edgeunet.runtime.backends.fallback import FallbackBackend
from edgeunet.runtime.backends.ort import open_flavour
from edgeunet.runtime.backends.steering import SteeredBackend
from edgeunet.runtime.frames import Batch, NetOutputs, SourceFrame, SourceInfo
from edgeunet.runtime.pipeline.stopping import stopping_on_signals
from edgeunet.runtime.sources import Source
from support.nets import Infer, StandIn, change_nets

IMAGE = np.full((64, 96, 3), 90, np.uint8)


@pytest.fixture
def segmenter(fp32_bundle: Path) -> Iterator[Segmenter]:
    with load(fp32_bundle, "onnxruntime", threads=1) as loaded:
        yield loaded


def ort(bundle: Bundle) -> NetBackend:
    return open_flavour(bundle, "fp32")


def threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if "edgeunet" in thread.name]


class Camera(Source):
    """So many frames at a pace, then none until it is stopped."""

    info = SourceInfo(0, Fraction(25), live=True)

    def __init__(self, frames: int, *, seconds: float = 0.0) -> None:
        super().__init__()
        self._count, self._seconds = frames, seconds
        self.closed = False

    def _read(self) -> Generator[SourceFrame, None, None]:
        for index in range(self._count):
            time.sleep(self._seconds)
            yield SourceFrame(index, "", IMAGE)
        assert self._stopped.wait(20), "nobody stopped the camera"

    def close(self) -> None:
        super().close()
        self.closed = True


def slowed(segmenter: Segmenter, seconds: float, monkeypatch: pytest.MonkeyPatch) -> None:
    def slow(infer: Infer, images: npt.NDArray[np.float32]) -> NetOutputs:
        time.sleep(seconds)
        return infer(images)

    change_nets(segmenter, slow, monkeypatch)


@pytest.mark.parametrize("batch", [1, 2])
def test_camera_that_is_faster_than_the_net_loses_counted_frames(
    segmenter: Segmenter, monkeypatch: pytest.MonkeyPatch, batch: int
) -> None:
    slowed(segmenter, 0.03, monkeypatch)
    camera = Camera(100, seconds=0.004)
    came = []
    with segmenter.stream(camera, batch=batch) as stream:
        for frame, _ in stream:
            came.append(frame.index)
            if frame.index == 99:  # the newest always comes out
                stream.stop()
    report = stream.report()
    assert came == sorted(set(came))
    assert report.dropped > 0
    assert report.read == 100 == len(came) + report.dropped
    assert report.segmented == len(came)
    assert threads() == []
    assert camera.closed


def test_camera_loses_nothing_where_told_to_wait(
    segmenter: Segmenter, monkeypatch: pytest.MonkeyPatch
) -> None:
    slowed(segmenter, 0.01, monkeypatch)
    with segmenter.stream(Camera(20), drop="none") as stream:
        came = []
        for frame, _ in stream:
            came.append(frame.index)
            if frame.index == 19:
                stream.stop()
    assert came == list(range(20))
    assert stream.report().dropped == 0


def test_live_batch_does_not_wait_for_ever(segmenter: Segmenter) -> None:
    with segmenter.stream(Camera(3), batch=4) as stream:
        assert [next(stream)[0].index for _ in range(3)] == [0, 1, 2]
        stream.stop()
        assert list(stream) == []


@pytest.mark.parametrize("taken", [0, 1, 3])
def test_consumer_may_leave_while_the_camera_is_away(segmenter: Segmenter, taken: int) -> None:
    camera = Camera(3)
    with segmenter.stream(camera, drop="none") as stream:
        for _ in range(taken):
            next(stream)
    assert threads() == []
    assert camera.closed


def test_fault_of_the_net_ends_the_stream_while_the_camera_is_away(
    segmenter: Segmenter, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(infer: Infer, images: object) -> NetOutputs:
        raise ZeroDivisionError

    change_nets(segmenter, fail, monkeypatch)
    with (
        segmenter.stream(Camera(1)) as stream,
        pytest.raises(ZeroDivisionError),
    ):
        next(stream)
    assert threads() == []


class Broken(StandIn):
    """Fails at each batch."""

    kind = "broken"

    def infer(self, images: npt.NDArray[np.float32]) -> NetOutputs:
        raise BackendError("the GPU is lost.")


def test_second_backend_takes_over_while_the_camera_is_away(fp32_bundle: Path) -> None:
    bundle = open_bundle(fp32_bundle)
    backend = FallbackBackend(Broken(bundle), ort)
    with backend, Segmenter(bundle, backend).stream(Camera(1)) as stream:
        assert next(stream)[0].index == 0
        assert backend.name == "onnxruntime"
        stream.stop()
        assert list(stream) == []
    assert threads() == []


def test_two_backends_that_fail_end_the_stream_while_the_camera_is_away(fp32_bundle: Path) -> None:
    bundle = open_bundle(fp32_bundle)
    backend = FallbackBackend(Broken(bundle), Broken)
    with (
        backend,
        Segmenter(bundle, backend).stream(Camera(1)) as stream,
        pytest.raises(BackendError, match="lost"),
    ):
        next(stream)
    assert threads() == []


def test_fault_at_a_depth_ends_the_stream_while_the_camera_is_away(depths_bundle: Path) -> None:
    bundle = open_bundle(depths_bundle)

    class BrokenLater(StandIn):
        """Works while the depths' costs are measured."""

        def infer(self, images: npt.NDArray[np.float32]) -> NetOutputs:
            if not warm:
                raise BackendError("the GPU is lost.")
            return NetOutputs(np.zeros((len(images), 3, 64, 96), np.float32), None)

    warm = True
    with SteeredBackend(bundle, BrokenLater, target_fps=10) as backend:
        warm = False
        with (
            Segmenter(bundle, backend).stream(Camera(1)) as stream,
            pytest.raises(BackendError, match="lost"),
        ):
            next(stream)
    assert threads() == []


def test_threads_that_fail_at_once_all_go_on_with_the_second_backend(fp32_bundle: Path) -> None:
    bundle = open_bundle(fp32_bundle)
    together = threading.Barrier(4, timeout=10)

    class BrokenTogether(Broken):
        def infer(self, images: npt.NDArray[np.float32]) -> NetOutputs:
            together.wait()
            return super().infer(images)

    with FallbackBackend(BrokenTogether(bundle), ort) as backend:
        with ThreadPoolExecutor(4) as pool:
            results = list(pool.map(backend.segment, [Batch.of([IMAGE]) for _ in range(4)]))
        assert backend.name == "onnxruntime"
    assert len({result.masks.tobytes() for result in results}) == 1


@pytest.mark.parametrize(
    "frame",
    [IMAGE[..., 0], IMAGE[..., :1], np.dstack([IMAGE, IMAGE[..., :1]])],
    ids=["gray", "gray with a channel", "RGBA"],
)
def test_frames_of_ones_own_are_converted_as_in_a_call(
    segmenter: Segmenter, frame: npt.NDArray[np.uint8]
) -> None:
    ((came, mask),) = segmenter.stream([SourceFrame(0, "", frame)])
    assert came.image.shape == (64, 96, 3)
    np.testing.assert_array_equal(mask, segmenter([frame]).masks[0])


def test_unknown_way_to_drop_is_refused(segmenter: Segmenter) -> None:
    with pytest.raises(UsageError, match="drop is 'newest'; expected oldest or none"):
        segmenter.stream([], drop="newest")  # type: ignore[arg-type]


@pytest.mark.parametrize("delay", [-0.1, float("nan")])
def test_delay_that_is_none_is_refused(segmenter: Segmenter, delay: float) -> None:
    with pytest.raises(UsageError, match="expected 0 seconds or more"):
        segmenter.stream([], max_delay=delay)


class Film(Source):
    """Three frames, then its own end."""

    info = SourceInfo(3, Fraction(25), live=False)

    def _read(self) -> Generator[SourceFrame, None, None]:
        for index in range(3):
            yield SourceFrame(index, "", IMAGE)


def test_source_that_is_given_up_after_the_last_frame_is_told(segmenter: Segmenter) -> None:
    """The stages read ahead, so the end of all sources may have been seen before."""
    with segmenter.stream({"a": Film(), "b": Film()}) as stream:
        for _ in range(6):
            next(stream)
        stream.fail("b", UsageError("the disk is full"))
        with pytest.raises(SourceError, match=r"^1 of 2 sources failed; .* b: the disk is full"):
            next(stream)
        assert next(stream, None) is None, "it is told once"


def test_error_of_the_consumer_ends_all_stages(segmenter: Segmenter) -> None:
    def consume() -> None:
        with segmenter.stream(Camera(5, seconds=0.001)) as stream:
            for _ in stream:
                raise KeyError

    with pytest.raises(KeyError):
        consume()
    assert threads() == []


def test_stop_comes_from_any_thread(segmenter: Segmenter) -> None:
    with segmenter.stream(Camera(2)) as stream:
        timer = threading.Timer(0.2, stream.stop)
        timer.start()
        assert len(list(stream)) == 2 - stream.report().dropped
        timer.join()
    assert threads() == []


def test_signal_stops_a_stream_that_waits(segmenter: Segmenter) -> None:
    with (
        segmenter.stream(Camera(1)) as stream,
        stopping_on_signals(stream.stop) as stopped,
    ):
        assert not stopped()
        timer = threading.Timer(0.2, os.kill, [os.getpid(), signal.SIGTERM])
        timer.start()
        assert len(list(stream)) == 1
        assert stopped()
        timer.join()


def test_second_signal_interrupts_a_read_that_blocks(
    segmenter: Segmenter, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked, go, freed = threading.Event(), threading.Event(), threading.Event()

    class Blocking(Camera):
        def _read(self) -> Generator[SourceFrame, None, None]:
            asked.set()
            assert go.wait(20)
            yield SourceFrame(0, "", IMAGE)

        def _free(self) -> None:
            freed.set()

    join = threading.Thread.join

    def interrupted(thread: threading.Thread, timeout: float | None = None) -> None:
        if thread.name == "edgeunet-decode":
            signal.raise_signal(signal.SIGINT)
        join(thread, timeout)

    monkeypatch.setattr(threading.Thread, "join", interrupted)

    def first_signal() -> None:
        assert asked.wait(10)
        os.kill(os.getpid(), signal.SIGINT)

    def consume() -> None:
        with (
            Blocking(0) as source,  # closed twice, as by `run`
            segmenter.stream(source) as stream,
            stopping_on_signals(stream.stop),
        ):
            threading.Thread(target=first_signal).start()
            list(stream)

    with pytest.raises(KeyboardInterrupt):
        consume()
    assert not freed.is_set(), "freed while it was being read"
    go.set()
    assert freed.wait(10)


def test_report_tells_the_source_and_the_stages(segmenter: Segmenter) -> None:
    camera = Camera(4, seconds=0.002)
    camera.skipped, camera.reconnects = 3, 2
    with segmenter.stream(camera, drop="none") as stream:
        assert stream.report().seconds == 0
        for _ in range(4):
            next(stream)
        stream.stop()
        assert list(stream) == []
    report = stream.report()
    assert (report.skipped, report.reconnects, report.segmented) == (3, 2, 4)
    assert list(report.stages) == ["decode", "preprocess", "infer", "postprocess"]
    assert report.stages["decode"].busy >= 0.008
    for stage in report.stages.values():
        assert 0 < stage.busy < 4 * report.seconds
        assert 0 < stage.p50 <= stage.p99
    assert report.seconds == stream.report().seconds, "the clock stops with the stream"


def test_frames_of_a_file_are_not_dropped(segmenter: Segmenter, images: Path) -> None:
    with pytest.raises(UsageError, match="files are read in full"):
        segmenter.stream(images, drop="oldest")


@pytest.mark.parametrize("batch", [1, 3])
def test_results_carry_confidence_if_asked_for(segmenter: Segmenter, batch: int) -> None:
    rng = np.random.default_rng(0)
    images = [rng.integers(0, 255, (50, 70, 3), np.uint8) for _ in range(4)]
    plain = segmenter.stream(images, batch=batch)
    assert all(segmented.confidence is None for segmented in plain.results())
    with segmenter.stream(images, batch=batch, confidence=True) as stream:
        for segmented, image in zip(stream.results(), images, strict=True):
            wanted = segmenter([image], confidence=True)
            assert wanted.confidence is not None
            np.testing.assert_array_equal(segmented.confidence, wanted.confidence[0])
            np.testing.assert_array_equal(segmented.mask, wanted.masks[0])


@pytest.mark.parametrize("taken", [0, 1])
def test_stream_that_nobody_needs_closes_its_source(
    segmenter: Segmenter, images: Path, taken: int
) -> None:
    freed = threading.Event()

    class Held(Camera):
        def _free(self) -> None:
            freed.set()

    stream = segmenter.stream(Held(100))
    for _ in range(taken):
        next(stream)
    assert not freed.is_set()
    del stream
    gc.collect()
    assert freed.wait(10)


def test_results_outlive_their_stream(segmenter: Segmenter, images: Path) -> None:
    results = segmenter.stream(images).results()
    gc.collect()
    assert len(list(results)) == 5


def test_opencv_keeps_to_one_thread_while_a_stream_runs(segmenter: Segmenter) -> None:
    before = cv2.getNumThreads()
    first, second = (segmenter.stream([IMAGE] * 3) for _ in range(2))
    next(first)
    next(second)
    assert cv2.getNumThreads() == 1
    first.close()
    assert cv2.getNumThreads() == 1, "the other stream still runs"
    second.close()
    assert cv2.getNumThreads() == before


def test_failed_stream_is_let_go_of(segmenter: Segmenter) -> None:
    """Its error's traceback holds it, and frames with it, so nothing else may hold the error."""

    class Broken(Camera):
        def _read(self) -> Generator[SourceFrame, None, None]:
            yield SourceFrame(0, "", IMAGE)
            raise SourceError("broken")

    stream = segmenter.stream(Broken(1))
    gone = weakref.ref(stream)
    with pytest.raises(SourceError, match="broken"):
        list(stream)
    del stream
    gc.collect()
    assert gone() is None
