"""Nets that run on windows: the masks of nnU-Net's sliding window, however large the frame is."""

from __future__ import annotations

import json
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import numpy_helper

from edgeunet.bundle.bundle import Bundle, open_bundle
from edgeunet.bundle.golden import GOLDEN_NAME
from edgeunet.bundle.schema import encode
from edgeunet.bundle.steps import ImageStatistics, Window
from edgeunet.data.windows import mask_of
from edgeunet.errors import UsageError
from edgeunet.files import sha256
from edgeunet.models.reference import to_whole
from edgeunet.runtime import Segmenter, Tiling, load
from edgeunet.runtime.backends import create_backend, tensorrt_engines
from edgeunet.runtime.backends.tiling import TiledBackend, WindowedBackend, by_windows
from edgeunet.runtime.backends.tiling import backend as tiled_backend
from edgeunet.runtime.frames import Batch, Frame, NetOutputs
from support.formats import statistics, windows
from support.nets import StandIn
from support.sliding import sliding_logits
from support.small_bundle import write_bundle
from support.tiles import Bright, Noisy, bundle_of

TIE = 1e-5  # of logits of about -10 to 10
sizes = st.integers(1, 90)
patches = st.integers(8, 40)


def windowed(height: int, width: int, window: Window, **changes: Any) -> Bundle:
    bundle = bundle_of(height, width, classes=4)
    spec = replace(bundle.manifest.input, window=window, **changes)
    return replace(bundle, manifest=replace(bundle.manifest, input=spec))


def noise(height: int, width: int, seed: int = 0) -> Frame:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


def zscored(frame: Frame) -> npt.NDArray[np.float64]:
    """As nnU-Net normalises, each channel (C, H, W) by itself."""
    planes = np.moveaxis(frame, -1, 0).astype(np.float64)
    deviation = np.maximum(planes.std((1, 2), keepdims=True), 1e-8)
    return (planes - planes.mean((1, 2), keepdims=True)) / deviation


def assert_decides(mask: npt.NDArray[np.uint8], logits: npt.NDArray[Any]) -> None:
    """Whether a mask is the argmax of logits (classes, H, W), but for ties."""
    chosen = np.take_along_axis(logits, mask[None].astype(np.int64), 0)[0]
    assert (logits.max(0) - chosen).max() < TIE * max(1, np.abs(logits).max())


# As nnU-Net


@given(
    size=st.tuples(sizes, sizes),
    patch=st.tuples(patches, patches),
    step=st.sampled_from([0.5, 0.3, 0.8, 1.0]),
    panel=st.sampled_from([1, 1 << 27]),
    count=st.integers(1, 3),
)
def test_masks_are_those_of_nnunets_sliding_window(
    size: tuple[int, int], patch: tuple[int, int], step: float, panel: int, count: int
) -> None:
    bundle = windowed(
        *patch, Window(step=step), statistics=ImageStatistics(), mean=(0,) * 3, std=(1,) * 3
    )
    net = Noisy(bundle)
    frames = [noise(*size, seed) for seed in range(count)]
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(tiled_backend, "_BAND_BYTES", panel)
        batch = WindowedBackend(net).segment(Batch.of(frames, confidence=True))
    assert batch.masks.shape == (count, *size)
    assert batch.confidence is not None

    def infer(images: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
        return net.infer(images.astype(np.float32)).logits

    for index, frame in enumerate(frames):
        logits = sliding_logits(infer, zscored(frame), patch, step)
        assert_decides(batch.masks[index], logits)
        assert (batch.masks[index] == logits.argmax(0)).mean() >= 0.9999
        softmax = np.exp(logits - logits.max(0))
        confidence = 255 / softmax.sum(0)
        assert np.abs(batch.confidence[index] - confidence).max() < 0.51


@given(
    size=st.tuples(sizes, sizes),
    patch=st.tuples(patches, patches),
    window=windows,
    fill=st.sampled_from([None, 0, 200]),
    measured=st.none() | statistics(),
    black=st.integers(0, 8),
    seed=st.integers(0, 99),
)
def test_masks_are_those_of_the_reference(
    size: tuple[int, int],
    patch: tuple[int, int],
    window: Window,
    fill: float | None,
    measured: ImageStatistics | None,
    black: int,
    seed: int,
) -> None:
    fill = fill if measured is None else None
    bundle = windowed(*patch, window, fill=fill, statistics=measured)
    net = Noisy(bundle)
    frame = noise(*size, seed)
    frame[:black] = frame[:, -black or size[1] :] = 0
    found = WindowedBackend(net).segment(Batch.of([frame])).masks[0]
    spec = bundle.manifest.input
    whole = to_whole(frame, spec)[0].numpy()
    first = mask_of(lambda images: net.infer(images).logits, whole, frame, spec)
    turned = mask_of(lambda images: net.infer(images).logits[:, ::-1], whole, frame, spec)
    last = len(bundle.manifest.classes) - 1 - turned
    # Where two classes have the same logits, either is right.
    assert ((found == first) | (found == last)).mean() >= 0.999


class Small(StandIn):
    """Logits at a quarter of the size: each class likes one channel."""

    kind = "small"

    def infer(self, images: npt.NDArray[np.float32]) -> NetOutputs:
        return NetOutputs(np.ascontiguousarray(images[:, [0, 1, 2, 0], 2::4, 2::4]), None)


def test_small_logits_are_enlarged_before_they_are_averaged() -> None:
    bundle = windowed(32, 24, Window())
    manifest = replace(bundle.manifest, logits_size=(8, 6))
    net = Small(replace(bundle, manifest=manifest))
    frame = noise(70, 50)
    found = WindowedBackend(net).segment(Batch.of([frame])).masks[0]
    whole = to_whole(frame, manifest.input)[0].numpy()
    expected = mask_of(lambda images: net.infer(images).logits, whole, frame, manifest.input)
    np.testing.assert_array_equal(found, expected)


# Crops


def test_what_lies_outside_of_the_content_is_class_0() -> None:
    bundle = windowed(16, 16, Window(crop=True))
    frame = np.zeros((60, 50, 3), np.uint8)
    frame[10:40, 20:45] = noise(30, 25) | 1
    backend = WindowedBackend(Noisy(bundle))
    (whole,) = backend.segment(Batch.of([frame], confidence=True))
    (part,) = backend.segment(Batch.of([frame[10:40, 20:45]], confidence=True))
    assert whole.confidence is not None
    np.testing.assert_array_equal(whole.mask[10:40, 20:45], part.mask)
    np.testing.assert_array_equal(whole.confidence[10:40, 20:45], part.confidence)
    outside = np.ones(whole.mask.shape, bool)
    outside[10:40, 20:45] = False
    assert (whole.mask[outside] == 0).all() and (whole.confidence[outside] == 255).all()


# Calls


def test_calls_take_as_many_windows_as_the_batch_has_frames() -> None:
    bundle = bundle_of(16, 16)
    spec = replace(bundle.manifest.input, window=Window(step=1))
    net = Bright(replace(bundle, manifest=replace(bundle.manifest, input=spec)))
    backend = WindowedBackend(net)
    backend.segment(Batch.of([noise(48, 32)]))
    assert net.calls == [1] * 6
    backend.segment(Batch.of([noise(48, 32)] * 4))
    assert net.calls[6:] == [4, 2] * 4


def test_tiles_are_normalised_by_what_the_whole_frame_is() -> None:
    bundle = windowed(16, 16, Window(), statistics=ImageStatistics())
    frame = np.full((16, 48, 3), 10, np.uint8)
    frame[:, :32] = 250

    class Positive(StandIn):
        kind = "positive"

        def infer(self, images: npt.NDArray[np.float32]) -> NetOutputs:
            plane = images.mean(1, keepdims=True)
            return NetOutputs(np.concatenate([-plane, plane, -plane, -plane], 1), None)

    for backend in (TiledBackend(Positive(bundle), Tiling()), by_windows(Positive(bundle))):
        mask = backend.segment(Batch.of([frame])).masks[0]
        np.testing.assert_array_equal(mask, np.tile(np.arange(48) < 32, (16, 1)))


def test_only_bundles_with_windows_run_by_windows() -> None:
    net = Noisy(bundle_of(16, 16))
    assert by_windows(net) is net


def test_failure_of_the_net_ends_the_threads() -> None:
    class Failing(Noisy):
        def infer(self, images: npt.NDArray[np.float32]) -> NetOutputs:
            raise RuntimeError("broken")

    before = threading.active_count()
    with pytest.raises(RuntimeError, match="broken"):
        WindowedBackend(Failing(windowed(16, 16, Window()))).segment(Batch.of([noise(40, 40)]))
    assert threading.active_count() == before


# Bundles


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A bundle whose golden mask needs the frame's own size: class 1 where it is bright."""
    root = write_bundle(tmp_path / "bundle", precision="fp32")
    graph = onnx.load(root / "model.fp32.onnx")
    kernel = np.array([[-1, -1, -1], [1, 1, 1]], np.float32)[..., None, None]
    graph.graph.initializer[0].CopyFrom(numpy_helper.from_array(kernel, "kernel"))
    onnx.save(graph, root / "model.fp32.onnx")
    frame = noise(45, 37)
    masks = (zscored(frame).sum(0) > 0)[None].astype(np.uint8)
    logits = np.zeros((1, 2, 16, 16), np.float32)
    np.savez(root / GOLDEN_NAME, frames=frame[None], masks=masks, logits=logits)
    manifest = json.loads((root / "manifest.json").read_text())
    statistics = encode(ImageStatistics())
    changes = {"window": {}, "statistics": statistics, "mean": [0.0] * 3, "std": [1.0] * 3}
    manifest["input"].update(changes)
    for name in ("model.fp32.onnx", GOLDEN_NAME):
        manifest["files"][name] = sha256(root / name)
    (root / "manifest.json").write_text(json.dumps(manifest))
    return root


def test_bundle_runs_on_windows_unless_tiles_are_asked_for(folder: Path) -> None:
    with load(folder, "onnxruntime", threads=1) as segmenter:
        golden = segmenter.bundle.golden()
        assert isinstance(segmenter.backend, WindowedBackend)
        assert segmenter.self_check() > 0.9999
        np.testing.assert_array_equal(segmenter([golden.frames[0]]).masks, golden.masks)
        with segmenter.stream([golden.frames[0]] * 2, batch=2) as stream:
            for _, mask in stream:
                np.testing.assert_array_equal(mask, golden.masks[0])
    with load(folder, "onnxruntime", threads=1, tiling=Tiling()) as segmenter:
        assert type(segmenter.backend) is TiledBackend
        assert segmenter.self_check() > 0.9999


def test_engines_are_judged_by_windows(folder: Path) -> None:
    bundle = open_bundle(folder)
    with create_backend("onnxruntime", bundle) as backend:
        assert tensorrt_engines._golden_agreement(bundle, backend.net) > 0.9999


def test_windows_are_not_smoothed_over_time() -> None:
    bundle = windowed(16, 16, Window())
    segmenter = Segmenter(bundle, WindowedBackend(Noisy(bundle)))
    with pytest.raises(UsageError, match="tiles or windows are not smoothed"):
        segmenter.stream([noise(20, 20)], temporal=0.5)
