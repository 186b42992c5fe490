"""Holding a frame rate with a real bundle: every mask is that of a depth, and none is lost."""

from __future__ import annotations

import json
import logging
import math
import shutil
import time
import weakref
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import groupby
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from edgeunet.bundle.bundle import Bundle
from edgeunet.data.cells import snapshots
from edgeunet.errors import BackendError, ParityError, SourceError, UsageError
from edgeunet.files import sha256
from edgeunet.runtime import Segmenter, load, open_bundle
from edgeunet.runtime.backends import Backend, Net
from edgeunet.runtime.backends.base import NetBackend
from edgeunet.runtime.backends.ort import open_flavour
from edgeunet.runtime.backends.steering import DepthController, SteeredBackend
from edgeunet.runtime.frames import Batch, Frame, NetOutputs, SourceFrame
from support.media import write_png

Masks = list[npt.NDArray[np.uint8]]


class SlowedNet(Net):
    """Takes at least 8 ms a frame for each step of depth, times a load that all depths share."""

    def __init__(self, net: Net, seconds: float, load: list[float]) -> None:
        self._net, self._seconds, self._load = net, seconds, load
        self.lanes = net.lanes

    def infer(self, images: npt.NDArray[np.float32]) -> NetOutputs:
        return self._net.infer(images)

    def infer_gated(self, images: npt.NDArray[np.float32]) -> NetOutputs:
        time.sleep(self._seconds * self._load[0] * len(images))
        return self._net.infer_gated(images)

    def lane(self) -> Net:
        return SlowedNet(self._net.lane(), self._seconds, self._load)


class Slowed(NetBackend):
    def __init__(self, bundle: Bundle, load: list[float]) -> None:
        seconds = 0.008 * bundle.manifest.arguments["depth"]
        super().__init__(bundle, SlowedNet(ort(bundle).net, seconds, load), name="slowed")
        self.closed = False

    def close(self) -> None:
        self.closed = True


def ort(bundle: Bundle) -> NetBackend:
    return open_flavour(bundle, "fp32", threads=1)


@pytest.fixture(scope="module")
def bundle(depths_bundle: Path) -> Bundle:
    return open_bundle(depths_bundle)


@pytest.fixture(scope="module")
def frames() -> list[Frame]:
    return [frame.image for frame in snapshots(12, height=64, width=96, seed=5)]


@pytest.fixture(scope="module")
def wanted(bundle: Bundle, frames: list[Frame]) -> dict[int, Masks]:
    """Masks of each frame by the bundle of each depth alone."""
    masks = {}
    for depth in bundle.depths:
        with load(bundle.at_depth(depth).root) as alone:
            masks[depth] = [alone([frame]).masks[0] for frame in frames]
    for index in range(len(frames)):
        different = {masks[depth][index].tobytes() for depth in bundle.depths}
        assert len(different) == 3, "masks that do not tell the depth"
    return masks


@pytest.mark.parametrize(("sources", "depth"), [(1, 3), (2, 2), (4, 1)])
def test_rate_is_that_of_each_source(
    bundle: Bundle, frames: list[Frame], sources: int, depth: int
) -> None:
    """A frame of each must fit into 40 ms; it takes the net 8 ms a step of depth."""
    costs = {each: 0.008 * each for each in (1, 2, 3)}
    batch = Batch(
        [SourceFrame(index, "", frames[index]) for index in range(sources)], sources=sources
    )
    with SteeredBackend(bundle, ort, target_fps=25) as backend:
        backend._controller = DepthController(25, costs)
        assert backend.depth == 3
        for _ in range(40):
            seconds = costs[backend.depth] * sources
            backend._observe(backend.depth, batch, seconds, elapsed=seconds)
        assert backend.depth == depth


def filmed(
    frames: list[Frame], count: int, at: Callable[[int], object] = lambda index: None
) -> Iterator[SourceFrame]:
    """The frames over and over; `at` is told the number of each."""
    for index in range(count):
        at(index)
        yield SourceFrame(index, str(index), frames[index % len(frames)])


def depths_of(
    stream: Iterator[tuple[SourceFrame, npt.NDArray[np.uint8]]], wanted: dict[int, Masks]
) -> list[int]:
    """Depth that each mask is of; every mask must be exactly that of one."""
    found = []
    for index, (frame, mask) in enumerate(stream):
        assert frame.index == index
        masks = {depth: wanted[depth][index % len(wanted[depth])] for depth in wanted}
        (depth,) = [depth for depth in masks if np.array_equal(masks[depth], mask)]
        found.append(depth)
    return found


# Switching


@pytest.mark.parametrize("batch", [1, 2])
def test_a_stream_goes_shallower_under_load_and_comes_back(
    bundle: Bundle, frames: list[Frame], wanted: dict[int, Masks], batch: int
) -> None:
    factor = [1.0]

    def at(index: int) -> None:  # what is on its way then is slowed as well
        factor[0] = 8.0 if 20 <= index < 50 else 1.0

    def make(bundle: Bundle) -> Backend:
        return Slowed(bundle, factor)

    with SteeredBackend(bundle, make, target_fps=10) as backend:
        stream = Segmenter(bundle, backend).stream(filmed(frames, 100, at), batch=batch)
        depths = depths_of(stream, wanted)
        assert len(depths) == 100
        assert depths[0] == depths[-1] == 3
        assert min(depths) < 3
        assert len(list(groupby(depths))) <= 5, "it went back and forth"
        assert backend.frames_by_depth == {depth: depths.count(depth) for depth in (3, 2, 1)}


def test_calls_one_by_one_switch_as_well(
    bundle: Bundle, frames: list[Frame], wanted: dict[int, Masks]
) -> None:
    factor = [1.0]
    with SteeredBackend(bundle, lambda b: Slowed(b, factor), target_fps=10) as backend:
        segmenter = Segmenter(bundle, backend)
        assert backend.depth == 3
        factor[0] = 12.0
        for index, frame in enumerate(frames):
            depth = backend.depth
            mask = segmenter([frame]).masks[0]
            np.testing.assert_array_equal(mask, wanted[depth][index])
        assert backend.depth == 1
        assert sum(backend.frames_by_depth.values()) == len(frames)


def test_a_slow_camera_and_a_slow_consumer_leave_the_deepest_net_in_place(
    bundle: Bundle, frames: list[Frame], wanted: dict[int, Masks]
) -> None:
    def slow(index: int) -> None:
        time.sleep(0.25)

    with SteeredBackend(bundle, ort, target_fps=8) as backend:
        segmenter = Segmenter(bundle, backend)
        assert set(depths_of(segmenter.stream(filmed(frames, 8, slow)), wanted)) == {3}
        for frame, _ in segmenter.stream(filmed(frames, 8)):
            slow(frame.index)
        assert backend.frames_by_depth == {3: 16, 2: 0, 1: 0}


def test_all_depths_too_slow_is_told_once_and_goes_on(
    bundle: Bundle, frames: list[Frame], wanted: dict[int, Masks], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    with SteeredBackend(bundle, lambda b: Slowed(b, [1.0]), target_fps=500) as backend:
        assert backend.depth == 1, "what the depths cost is known from the start"
        depths = depths_of(Segmenter(bundle, backend).stream(filmed(frames, 80)), wanted)
    assert depths == [1] * 80
    begin, *warnings = caplog.records
    assert begin.getMessage().startswith("depth 1 to begin with; a frame takes at depth 1: ")
    (warning,) = warnings
    assert warning.levelno == logging.WARNING
    assert "Even depth 1 takes" in warning.getMessage()


# What goes wrong on the way


def switching(monkeypatch: pytest.MonkeyPatch, bundle: Bundle, depths: list[int]) -> SteeredBackend:
    """A backend that takes the next of `depths` after each batch, and the first to begin with."""
    backend = SteeredBackend(bundle, ort, target_fps=1)
    following = iter(depths)

    def observe(self: DepthController, *_: object, **__: object) -> None:
        self.depth = next(following, self.depth)

    monkeypatch.setattr(DepthController, "observe", observe)
    return backend


def test_a_fault_of_the_source_comes_after_the_frames_before_it(
    bundle: Bundle, frames: list[Frame], wanted: dict[int, Masks], monkeypatch: pytest.MonkeyPatch
) -> None:
    def at(index: int) -> None:
        if index == 11:
            raise SourceError("the camera is gone.")

    with switching(monkeypatch, bundle, [2, 2, 1, 1, 3, 3, 3, 2, 2]) as backend:
        found: list[int] = []

        def segment() -> Iterator[tuple[SourceFrame, npt.NDArray[np.uint8]]]:
            for pair in Segmenter(bundle, backend).stream(filmed(frames, 20, at)):
                found.append(pair[0].index)
                yield pair

        with pytest.raises(SourceError, match="the camera is gone"):
            depths_of(segment(), wanted)
        assert found == list(range(11))


def test_switching_at_every_batch_loses_no_frame(
    bundle: Bundle, frames: list[Frame], wanted: dict[int, Masks], monkeypatch: pytest.MonkeyPatch
) -> None:
    with switching(monkeypatch, bundle, [1, 2, 3] * 40) as backend:
        depths = depths_of(Segmenter(bundle, backend).stream(filmed(frames, 60)), wanted)
        assert len(depths) == 60
        assert set(depths) == {1, 2, 3}
        assert sum(backend.frames_by_depth.values()) == 60
        assert list(Segmenter(bundle, backend).stream(iter([]))) == []


def test_a_stream_at_one_depth_keeps_no_batch(bundle: Bundle, frames: list[Frame]) -> None:
    alive: list[weakref.ref[Batch]] = []

    def batches() -> Iterator[Batch]:
        for _ in range(30):
            batch = Batch.of(frames[:1])
            alive.append(weakref.ref(batch))
            yield batch

    with SteeredBackend(bundle, ort, target_fps=0.1) as backend:
        most = max(sum(ref() is not None for ref in alive) for _ in backend.stream(batches()))
        assert backend.frames_by_depth[3] == 30
    assert most < 12


def test_calls_of_many_threads_are_all_counted(
    bundle: Bundle, frames: list[Frame], monkeypatch: pytest.MonkeyPatch
) -> None:
    inside: list[int] = []

    def observe(self: DepthController, *_: object, **__: object) -> None:
        inside.append(len(inside))
        time.sleep(0.001)
        assert len(inside) == 1, "two threads at once"
        inside.pop()

    monkeypatch.setattr(DepthController, "observe", observe)
    with SteeredBackend(bundle, ort, target_fps=10) as backend, ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda _: backend.segment(Batch.of(frames[:1])), range(24)))
        assert sum(backend.frames_by_depth.values()) == 24


def test_a_consumer_that_leaves_early_leaves_nothing_running(
    bundle: Bundle, frames: list[Frame]
) -> None:
    taken: list[int] = []
    with SteeredBackend(bundle, ort, target_fps=10) as backend:
        stream = Segmenter(bundle, backend).stream(filmed(frames, 1000, taken.append))
        next(stream)
        stream.close()
        count = len(taken)
        time.sleep(0.05)
    assert len(taken) == count < 50


def test_all_backends_are_closed_also_where_one_cannot_be_made(bundle: Bundle) -> None:
    made: list[Slowed] = []

    def make(bundle: Bundle) -> Backend:
        if len(made) == fail_at:
            raise BackendError("there is no memory left.")
        made.append(Slowed(bundle, [0.0]))
        return made[-1]

    fail_at = 2
    with pytest.raises(BackendError, match="no memory left"):
        SteeredBackend(bundle, make, target_fps=10)
    assert [backend.closed for backend in made] == [True, True]
    made.clear()
    fail_at = 3
    SteeredBackend(bundle, make, target_fps=10).close()
    assert [backend.closed for backend in made] == [True, True, True]


def test_the_golden_frames_of_every_depth_are_checked(depths_bundle: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(depths_bundle, tmp_path / "copy"))
    golden = copy / "depths" / "2" / "golden.npz"
    with np.load(golden) as arrays:
        changed = {**arrays, "masks": 2 - arrays["masks"]}
    np.savez_compressed(golden, **changed)
    for path, key, name in (
        (golden.parent / "manifest.json", "files", "golden.npz"),
        (copy / "manifest.json", "depths", "2"),
    ):
        manifest = json.loads(path.read_text())
        manifest[key][name] = sha256(golden if key == "files" else golden.parent / "manifest.json")
        path.write_text(json.dumps(manifest))
    with load(copy) as alone:
        assert alone.self_check() > 0.99
    with load(copy, target_fps=5) as segmenter, pytest.raises(ParityError, match="depths/2 on"):
        segmenter.self_check()


@pytest.mark.parametrize("rate", [0, -1, math.nan, math.inf])
def test_a_rate_that_is_none_is_wrong_usage(depths_bundle: Path, rate: float) -> None:
    with pytest.raises(UsageError, match=r"target_fps is .*"):
        load(depths_bundle, target_fps=rate)


def test_a_bundle_of_one_depth_holds_no_rate(depths_bundle: Path) -> None:
    with pytest.raises(UsageError, match=r"holds one depth; .*--depths 1,2,3,4"):
        load(depths_bundle / "depths" / "2", target_fps=25)


# The command line


@pytest.fixture
def images(frames: list[Frame], tmp_path: Path) -> Path:
    (tmp_path / "images").mkdir()
    for index, frame in enumerate(frames):
        write_png(tmp_path / "images" / f"{index:02d}.png", frame)
    return tmp_path / "images"
