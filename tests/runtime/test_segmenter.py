"""Segmenter: frames in, masks out, alone, in batches and as a stream."""

from __future__ import annotations

import gc
import json
import mmap
import pickle
import shutil
import threading
import time
import traceback
import weakref
from collections.abc import Iterator
from contextlib import closing
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from edgeunet.data.cells import snapshots
from edgeunet.errors import BundleError, FrameError, ParityError, SourceError, UsageError
from edgeunet.files import sha256
from edgeunet.runtime import Segmenter, Tiling, load
from edgeunet.runtime.backends import Net, ort
from edgeunet.runtime.frames import Batch, NetOutputs, SourceFrame
from support.media import Frame, number_of, write_png, write_video
from support.nets import Infer, change_nets

MAX_BATCH = 4


@pytest.fixture(scope="module")
def segmenter(fp32_bundle: Path) -> Iterator[Segmenter]:
    with load(fp32_bundle) as loaded:
        assert loaded.manifest.max_batch == MAX_BATCH
        yield loaded


def scenes(count: int, size: tuple[int, int] = (64, 96)) -> list[Frame]:
    return [frame.image for frame in snapshots(count, height=size[0], width=size[1], seed=3)]


@pytest.fixture(scope="module")
def frames() -> list[Frame]:
    return scenes(9)


def alone(segmenter: Segmenter, frames: list[Frame]) -> list[Frame]:
    return [segmenter([frame]).masks[0] for frame in frames]


def threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if "edgeunet" in thread.name]


def source(frames: list[Frame], fault: Exception | None = None) -> Iterator[SourceFrame]:
    for index, image in enumerate(frames):
        yield SourceFrame(index, f"frame {index}", image)
    if fault is not None:
        raise fault


# Calls


def test_result_knows_frames_names_and_classes(segmenter: Segmenter, tmp_path: Path) -> None:
    images = scenes(MAX_BATCH + 1)
    write_png(tmp_path / "a.png", images[0])
    result = segmenter([tmp_path / "a.png", *images[1:]])
    assert [each.frame.name for each in result] == ["a.png", *[""] * MAX_BATCH]
    for each, image in zip(result, images, strict=True):
        np.testing.assert_array_equal(each.frame.image, image)
        assert each.legend.classes == segmenter.manifest.classes
        assert each.legend.palette == segmenter.manifest.palette
    with segmenter.stream(images) as stream:
        for each, streamed in zip(result, stream.results(), strict=True):
            assert streamed.regions(background=True) == each.regions(background=True) != []
    alone = segmenter.segment(SourceFrame(7, "b", images[0]))
    assert alone.frame.index == 7
    assert alone.regions() == result[0].regions()


@settings(max_examples=10)
@given(height=st.integers(1, 150), width=st.integers(1, 150), count=st.integers(1, 3))
def test_masks_have_the_frames_size(
    segmenter: Segmenter, height: int, width: int, count: int
) -> None:
    result = segmenter([np.full((height, width, 3), 128, np.uint8)] * count)
    assert result.masks.shape == (count, height, width)
    assert result.masks.dtype == np.uint8
    assert result.masks.max() < len(segmenter.manifest.classes)
    assert result.presence is None


def test_frames_may_come_as_one_array(segmenter: Segmenter, frames: list[Frame]) -> None:
    np.testing.assert_array_equal(
        segmenter(np.stack(frames[:3])).masks, segmenter(frames[:3]).masks
    )


def test_more_frames_than_the_largest_batch_are_split(
    segmenter: Segmenter, frames: list[Frame], monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes = []
    segment = segmenter.backend.segment

    def counted(batch: Batch) -> Batch:
        sizes.append(len(batch))
        return segment(batch)

    wanted = np.stack(alone(segmenter, frames))
    monkeypatch.setattr(segmenter.backend, "segment", counted)
    result = segmenter(frames, confidence=True)
    assert sizes == [4, 4, 1]
    np.testing.assert_array_equal(result.masks, wanted)
    assert result.confidence is not None and result.confidence.shape == wanted.shape
    assert min(vars(result.timings).values()) > 0
    assert len(np.unique(wanted)) > 1, "one class alone shows nothing"


def test_no_frames_are_refused(segmenter: Segmenter) -> None:
    with pytest.raises(UsageError, match="got none"):
        segmenter([])


def test_frames_of_several_sizes_are_refused(segmenter: Segmenter) -> None:
    with pytest.raises(FrameError, match="64x96, 64x97"):
        segmenter([np.zeros((64, 97, 3), np.uint8), np.zeros((64, 96, 3), np.uint8)])


@pytest.mark.parametrize(
    "frame",
    [np.zeros((64, 96, 3), np.float32), np.zeros((64, 96, 2), np.uint8), np.zeros(5, np.uint8)],
    ids=["float", "two channels", "one dimension"],
)
def test_frame_that_is_no_image_is_refused(
    segmenter: Segmenter, frame: npt.NDArray[np.generic]
) -> None:
    with pytest.raises(FrameError, match=r"expected|the net takes"):
        segmenter([frame])


def test_frames_come_in_the_forms_that_people_have(
    segmenter: Segmenter, frames: list[Frame], tmp_path: Path
) -> None:
    """`test_arrays.py` has all of them."""
    wanted = segmenter([frames[0]]).masks
    write_png(tmp_path / "a.png", frames[0])
    for one in (frames[0], frames[0][None], tmp_path / "a.png", Image.fromarray(frames[0])):
        assert np.array_equal(segmenter(one).masks, wanted)
    with pytest.raises(UsageError, match="got a NoneType; expected arrays"):
        segmenter(None)


def test_other_forms_equal_their_rgb_form(segmenter: Segmenter, frames: list[Frame]) -> None:
    rgb = frames[0]
    gray = rgb[..., 0]
    gray_as_rgb = np.dstack([gray] * 3)
    alpha = np.random.default_rng(0).integers(0, 256, gray.shape, np.uint8)
    forms = {
        "gray": (gray, gray_as_rgb),
        "gray with a channel": (gray[..., None], gray_as_rgb),
        "RGBA": (np.dstack([rgb, alpha]), rgb),
        "16 bit": (rgb * np.uint16(257), rgb),
        "16 bit gray": (gray * np.uint16(257), gray_as_rgb),
        "a view": (np.ascontiguousarray(rgb[:, ::-1])[:, ::-1], rgb),
    }
    for form, (frame, wanted) in forms.items():
        np.testing.assert_array_equal(segmenter([frame]).masks, segmenter([wanted]).masks, form)


def test_colours_are_not_exchanged(segmenter: Segmenter, frames: list[Frame]) -> None:
    rgb = np.dstack([frames[0][..., 0], frames[1][..., 0], frames[2][..., 0]])
    assert (segmenter([rgb]).masks != segmenter([rgb[..., ::-1]]).masks).any()


def test_backends_agree(fp32_bundle: Path, frames: list[Frame]) -> None:
    with load(fp32_bundle) as one, load(fp32_bundle, "pytorch") as other:
        assert np.mean(one(frames).masks == other(frames).masks) >= 0.9999


def test_load_refuses_what_is_no_bundle(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match=r"is not a bundle.*edgeunet export"):
        load(tmp_path)


@pytest.mark.parametrize("backend", ["onnxruntime", "pytorch"])
def test_a_closed_segmenter_has_freed_its_nets_and_says_so(
    fp32_bundle: Path, frames: list[Frame], backend: str
) -> None:
    segmenter = load(fp32_bundle, backend)
    segmenter([frames[0]])
    with segmenter.stream(frames[:3]) as stream:
        assert len(list(stream)) == 3
    finished = stream
    net = segmenter.backend.net
    held = [getattr(net, name) for name in ("_net", "_first") if hasattr(net, name)]
    held += [net._lane._first] if backend == "onnxruntime" else []  # type: ignore[attr-defined]
    freed = [weakref.ref(each) for each in held]
    assert freed
    del held
    gc.disable()
    try:
        segmenter.close()
        assert [reference() for reference in freed] == [None] * len(freed)
    finally:
        gc.enable()
    segmenter.close()
    for call in (
        lambda: segmenter([frames[0]]),
        lambda: segmenter.stream(frames),
        segmenter.self_check,
        lambda: net.infer(np.zeros((1, 3, 64, 96), np.float32)),
    ):
        with pytest.raises(UsageError, match=r"it is closed, .* Load the bundle again\."):
            call()
    assert list(finished) == []  # it had ended before


@pytest.mark.parametrize("started", [True, False])
def test_streams_of_a_closed_segmenter_end_with_an_error(
    fp32_bundle: Path, frames: list[Frame], started: bool
) -> None:
    segmenter = load(fp32_bundle)
    stream = segmenter.stream(source(frames * 10))
    results = stream.results()
    if started:
        next(stream)
    segmenter.close()
    assert threads() == []
    for take in (lambda: next(stream), lambda: next(results), lambda: list(stream)):
        with pytest.raises(UsageError, match="it is closed"):
            take()


def test_closing_ends_a_stream_that_waits_in_another_thread(
    fp32_bundle: Path, frames: list[Frame]
) -> None:
    segmenter, released, caught = load(fp32_bundle), threading.Event(), list[Exception]()

    def endless() -> Iterator[Frame]:
        yield frames[0]
        released.wait(20)

    def consume() -> None:
        try:
            list(segmenter.stream(endless()))
        except UsageError as error:
            caught.append(error)

    consumer = threading.Thread(target=consume)
    consumer.start()
    while not any(name == "edgeunet-infer" for name in threads()):
        time.sleep(0.01)
    segmenter.close()
    consumer.join(10)
    released.set()
    assert not consumer.is_alive()
    assert "it is closed" in str(caught[0])


@pytest.mark.slow
def test_memory_stays_when_bundles_are_loaded_and_closed(
    fp32_bundle: Path, frames: list[Frame]
) -> None:
    """With the collector off: what is closed is free without it."""
    held = []

    def resident() -> float:
        return int(Path("/proc/self/statm").read_text().split()[1]) * mmap.PAGESIZE / 1e6

    gc.collect()
    gc.disable()
    try:
        for _ in range(80):
            held.append(load(fp32_bundle, "onnxruntime", threads=1))
            held[-1]([frames[0]])
            held[-1].close()
            memory = resident()
            if len(held) == 20:
                warm = memory
    finally:
        gc.enable()
    assert memory - warm < 5


def test_a_pickled_segmenter_is_opened_anew_with_its_options(
    fp32_bundle: Path, frames: list[Frame], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(fp32_bundle.parent)
    with load(fp32_bundle.name, "onnxruntime", tiling=Tiling(overlap=0.5), threads=1) as segmenter:
        pickled = pickle.dumps(segmenter)
        expected = segmenter(frames)
    monkeypatch.chdir(tmp_path)
    with pickle.loads(pickled) as copy:
        assert copy.backend.tiles
        found = pickle.loads(pickle.dumps(copy(frames)))
        np.testing.assert_array_equal(found.masks, expected.masks)
        assert found.legend == expected.legend


def test_a_segmenter_that_cannot_be_opened_anew_is_not_pickled(fp32_bundle: Path) -> None:
    segmenter = load(fp32_bundle)
    own = Segmenter(segmenter.bundle, segmenter.backend)
    with pytest.raises(UsageError, match=r"a backend of your own cannot be pickled"):
        pickle.dumps(own)
    segmenter.close()
    with pytest.raises(UsageError, match="closed"):
        pickle.dumps(segmenter)


def test_closes_its_backend(fp32_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    closed = []
    with load(fp32_bundle) as loaded:
        monkeypatch.setattr(loaded.backend, "close", lambda: closed.append(True))
        assert closed == []
    assert closed == [True]


# Streams


@pytest.mark.parametrize("batch", [1, 2, 3, 4])
def test_stream_equals_calls_in_order(
    segmenter: Segmenter, frames: list[Frame], batch: int
) -> None:
    wanted = alone(segmenter, frames)
    came = list(segmenter.stream(source(frames), batch=batch))
    assert [frame.index for frame, _ in came] == list(range(len(frames)))
    for (frame, mask), image, single in zip(came, frames, wanted, strict=True):
        np.testing.assert_array_equal(frame.image, image)
        np.testing.assert_array_equal(mask, single)
        assert mask.dtype == np.uint8
    assert threads() == []


def test_stream_takes_arrays(segmenter: Segmenter, frames: list[Frame]) -> None:
    gray = frames[0][:, :, 0]
    came = list(segmenter.stream([frames[0], gray]))
    assert [(frame.index, frame.name, frame.time) for frame, _ in came] == [
        (0, "", None),
        (1, "", None),
    ]
    for (_, mask), image in zip(came, [frames[0], gray], strict=True):
        np.testing.assert_array_equal(mask, segmenter([image]).masks[0])


def test_stream_takes_items_as_a_call_does(
    segmenter: Segmenter, frames: list[Frame], tmp_path: Path
) -> None:
    given = [write_png(tmp_path / "a.png", frames[0]), Image.fromarray(frames[1])]
    came = [mask for _, mask in segmenter.stream(given)]
    np.testing.assert_array_equal(came, segmenter(given).masks)


@pytest.mark.parametrize("no_source", [0, None, np.zeros((64, 96, 3), np.uint8)])
def test_stream_refuses_what_is_no_source(segmenter: Segmenter, no_source: Any) -> None:
    with pytest.raises(UsageError, match="is no source"):
        segmenter.stream(no_source)


def test_stream_refuses_what_is_no_frame(segmenter: Segmenter) -> None:
    frames: Any = [b"jpeg"]
    with pytest.raises(UsageError, match="got a bytes; expected arrays"):
        list(segmenter.stream(frames))


def test_stream_reads_videos(segmenter: Segmenter, tmp_path: Path) -> None:
    path = write_video(tmp_path / "clip.mp4", 7)
    came = list(segmenter.stream(path, batch=3))
    assert [number_of(frame.image) for frame, _ in came] == list(range(7))
    for frame, mask in came:
        np.testing.assert_array_equal(mask, segmenter([frame.image]).masks[0])


def test_stream_follows_changing_image_sizes(segmenter: Segmenter, tmp_path: Path) -> None:
    sizes = [(64, 96), (64, 96), (50, 70), (64, 96), (64, 96), (64, 96)]
    images = [scenes(1, size)[0] for size in sizes]
    for index, image in enumerate(images):
        write_png(tmp_path / f"{index}.png", image)
    came = list(segmenter.stream(tmp_path, batch=3))
    assert [frame.name for frame, _ in came] == [f"{index}.png" for index in range(6)]
    assert [mask.shape for _, mask in came] == sizes
    for (_, mask), single in zip(came, alone(segmenter, images), strict=True):
        np.testing.assert_array_equal(mask, single)


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("taken", [1, 4])
def test_stream_leaves_no_thread_when_the_consumer_stops_early(
    segmenter: Segmenter, frames: list[Frame], taken: int, batch: int
) -> None:
    with closing(segmenter.stream(source(frames * 20), batch=batch)) as stream:
        assert [frame.index for frame, _ in islice(stream, taken)] == list(range(taken))
        assert sorted(threads()) == [
            "edgeunet-decode", *["edgeunet-infer"] * segmenter.backend.net.lanes,
            "edgeunet-postprocess", "edgeunet-preprocess",
        ]  # fmt: skip
    assert threads() == []


def test_stream_that_is_dropped_leaves_no_thread(segmenter: Segmenter, frames: list[Frame]) -> None:
    for frame, _ in segmenter.stream(source(frames * 20)):
        if frame.index == 2:
            break
    assert threads() == []


@pytest.mark.parametrize("batch", [1, 2, 3, 4])
def test_stream_yields_the_frames_before_a_fault(
    segmenter: Segmenter, frames: list[Frame], batch: int
) -> None:
    fault = SourceError("damaged at frame 5")
    stream = segmenter.stream(source(frames[:5], fault), batch=batch)
    assert [frame.index for frame, _ in islice(stream, 5)] == [0, 1, 2, 3, 4]
    with pytest.raises(SourceError) as raised:
        next(stream)
    assert raised.value is fault
    assert threads() == []


def test_stream_of_one_batch_opens_no_lane(
    segmenter: Segmenter, frames: list[Frame], monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = []
    lane = segmenter.backend.net.lane

    def counted() -> Net:
        opened.append(1)
        return lane()

    monkeypatch.setattr(segmenter.backend.net, "lane", counted)
    (only,) = segmenter.stream(frames[:1])
    assert opened == []
    first, _ = segmenter.stream(frames[:2])
    assert opened
    assert np.array_equal(only[1], first[1])


def test_stream_raises_a_fault_of_the_backend(
    segmenter: Segmenter, frames: list[Frame], monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = []

    def failing(infer: Infer, images: npt.NDArray[np.float32]) -> NetOutputs:
        calls.append(len(images))
        if len(calls) == 3:
            raise ZeroDivisionError
        return infer(images)

    change_nets(segmenter, failing, monkeypatch)
    stream = segmenter.stream(source(frames), batch=2)
    assert [frame.index for frame, _ in islice(stream, 4)] == [0, 1, 2, 3]
    with pytest.raises(ZeroDivisionError):
        next(stream)
    assert threads() == []


@pytest.mark.parametrize("batch", [0, -1, MAX_BATCH + 1])
def test_stream_refuses_batches_that_the_graph_cannot_take(
    segmenter: Segmenter, frames: list[Frame], batch: int
) -> None:
    with pytest.raises(UsageError, match=rf"batch is {batch}; .* 1 to 4.*--max-batch"):
        next(segmenter.stream(source(frames), batch=batch))


# Self-check


def test_self_check_gives_the_agreement(segmenter: Segmenter) -> None:
    golden = segmenter.bundle.golden()
    agreement = segmenter.self_check()
    assert agreement >= 0.9999
    assert agreement == np.mean(segmenter(list(golden.frames)).masks == golden.masks)


def with_golden(bundle: Path, folder: Path, wrong: float) -> Path:
    """Copy of a bundle in which the share `wrong` of the golden mask pixels has another class."""
    copy = shutil.copytree(bundle, folder / "copy")
    path = copy / "golden.npz"
    with np.load(path) as stored:
        arrays = dict(stored)
    masks = arrays["masks"].reshape(-1)
    masks[: round(wrong * masks.size)] = 200
    np.savez_compressed(path, **arrays)
    manifest = json.loads((copy / "manifest.json").read_text())
    manifest["files"]["golden.npz"] = sha256(path)
    (copy / "manifest.json").write_text(json.dumps(manifest))
    return copy


def test_self_check_refuses_wrong_masks(fp32_bundle: Path, tmp_path: Path) -> None:
    copy = with_golden(fp32_bundle, tmp_path, 0.002)
    with load(copy) as loaded, pytest.raises(ParityError) as error:
        loaded.self_check()
    for words in ("onnxruntime", "99.80%", "99.9%", "edgeunet parity"):
        assert words in str(error.value)


def test_self_check_bears_what_the_precision_may_lose(fp32_bundle: Path, tmp_path: Path) -> None:
    with load(with_golden(fp32_bundle, tmp_path, 0.0005)) as loaded:
        assert loaded.self_check() == pytest.approx(0.9995, abs=1e-4)


def test_few_calls_lie_between_a_call_and_onnx_runtime(
    fp32_bundle: Path, frames: list[Frame], monkeypatch: pytest.MonkeyPatch
) -> None:
    """CONTRIBUTING lists them; whoever adds one must see that."""
    stacks = []
    run = ort._run

    def counted(*arguments: Any) -> Any:
        stacks.append([entry for entry in traceback.extract_stack() if "runtime" in entry.filename])
        return run(*arguments)

    monkeypatch.setattr(ort, "_run", counted)
    with load(fp32_bundle) as loaded:
        loaded(frames[:1])
    product = Path(ort.__file__).resolve().parents[1]
    ours = [entry for entry in stacks[0] if product in Path(entry.filename).resolve().parents]
    assert [entry.name for entry in ours] == [
        "__call__", "<listcomp>", "segment", "_infer", "infer_gated", "infer", "run", "compute",
    ]  # fmt: skip
