"""Tiled frames: one mask of their own size, the same however they are cut."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Iterator
from itertools import product
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeunet.bundle.bundle import Bundle
from edgeunet.bundle.manifest import Resize
from edgeunet.data.cells import CellFrame, snapshots
from edgeunet.errors import BackendError, FrameError, UsageError
from edgeunet.runtime import Segmenter, Tiling, load, open_bundle
from edgeunet.runtime.backends import create_backend
from edgeunet.runtime.backends.base import NetBackend
from edgeunet.runtime.backends.ort import OrtNet
from edgeunet.runtime.backends.parts import Arrays
from edgeunet.runtime.backends.tiling import TiledBackend
from edgeunet.runtime.backends.tiling import backend as tiled_backend
from edgeunet.runtime.backends.tiling.band import tile_weights
from edgeunet.runtime.backends.tiling.plan import cut, spans
from edgeunet.runtime.frames import Batch, NetOutputs, SourceFrame
from edgeunet.runtime.options import Blend
from support.commands import fails, succeeds
from support.media import Frame, read_mask_png, write_png
from support.tiles import Bright, Noisy, Ring, bundle_of

ROOT = Path(__file__).parents[4]
BLENDS: tuple[Blend, ...] = ("gaussian", "valid")
tilings = st.builds(
    Tiling,
    overlap=st.floats(0, 0.5),
    blend=st.sampled_from(BLENDS),
    batch=st.integers(1, 8),
)


def noise(height: int, width: int, count: int = 1) -> list[Frame]:
    rng = np.random.default_rng(height * 1000 + width)
    return list(rng.integers(0, 256, (count, height, width, 3), np.uint8))


# What a frame becomes


@given(
    st.integers(1, 120),
    st.integers(1, 120),
    st.integers(9, 40),
    st.integers(9, 40),
    tilings,
    st.sampled_from(["stretch", "pad"]),
)
def test_net_that_looks_at_one_pixel_gives_the_same_mask_however_it_is_tiled(
    height: int, width: int, rows: int, columns: int, tiling: Tiling, resize: Resize
) -> None:
    frames = noise(height, width, 2)
    whole = Bright(bundle_of(rows, columns, resize=resize))
    result = TiledBackend(whole, tiling).segment(Batch.of(frames))
    np.testing.assert_array_equal(result.masks, np.mean(frames, axis=3) > 127.5)
    assert result.masks.dtype == np.uint8 and result.presence is None
    tiles = len(spans(height, rows, tiling)) * len(spans(width, columns, tiling))
    assert max(whole.calls) <= tiling.batch
    assert sum(whole.calls) == 2 * tiles
    assert len(whole.calls) == 2 * -(-tiles // tiling.batch), "calls are not filled"


@pytest.mark.parametrize("blend", BLENDS)
@pytest.mark.parametrize("size", [(300, 400), (131, 127), (128, 128), (500, 128)])
def test_what_a_net_gets_wrong_at_its_border_does_not_show(
    blend: Blend, size: tuple[int, int]
) -> None:
    whole = Ring(bundle_of(128, 128), 14)
    mask = (
        TiledBackend(whole, Tiling(overlap=0.25, blend=blend))
        .segment(Batch.of(noise(*size)))
        .masks[0]
    )
    # "gaussian" has no other tile for the image's own border, "valid" mirrors it.
    border = 14 if blend == "gaussian" else 0
    assert not mask[border : size[0] - border, border : size[1] - border].any()
    apart = (
        TiledBackend(whole, Tiling(overlap=0, blend=blend))
        .segment(Batch.of(noise(300, 400)))
        .masks[0]
    )
    assert apart[14:-14, 14:-14].any(), "nothing to see"


def blended(backend: NetBackend, frame: Frame, tiling: Tiling) -> npt.NDArray[np.float64]:
    """Weighted sums of the probabilities (C, H, W), straight from the definition."""
    spec, gate = backend.bundle.manifest.input, np.array(backend.bundle.manifest.gate)
    size = spec.height, spec.width
    sums = np.zeros((len(gate), *frame.shape[:2]))
    weights = tile_weights(size, tiling.blend).astype(float)
    for row, column in product(*map(spans, frame.shape[:2], size, (tiling, tiling))):
        tile = cut(frame, row.start, column.start, size)
        logits, presence = backend.net.infer(backend.preprocess([tile]))
        assert presence is not None
        shares = np.exp(logits[0].astype(float))
        shares[presence[0] < gate] = 0
        if not shares.any():
            shares[0] = 1
        shares *= weights / shares.sum(axis=0)
        inside = np.s_[
            :,
            row.first - row.start : row.stop - row.start,
            column.first - column.start : column.stop - column.start,
        ]
        sums[:, row.first : row.stop, column.first : column.stop] += shares[inside]
    return sums


@pytest.mark.parametrize("band_bytes", [1, 20_000, 1 << 30])
@pytest.mark.parametrize("blend", BLENDS)
def test_masks_and_confidence_are_those_of_the_definition(
    blend: Blend, band_bytes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where the band is cut into panels."""
    monkeypatch.setattr(tiled_backend, "_BAND_BYTES", band_bytes)
    whole = Noisy(bundle_of(24, 32, classes=4, gate=(0.0, 0.55, 0.4, 0.45)))
    frames = noise(101, 157, 2)
    # The gate of dark tiles closes other classes than that of bright ones.
    frames[0][:] = np.clip(frames[0] * np.linspace(0.2, 2, 157)[:, None], 0, 255)
    tiling = Tiling(overlap=0.4, blend=blend, batch=3)
    result = TiledBackend(whole, tiling).segment(Batch.of(frames, confidence=True))
    assert result.confidence is not None and result.presence is not None
    for index, frame in enumerate(frames):
        sums = blended(whole, frame, tiling)
        best = np.sort(sums, axis=0)
        clear = best[-1] - best[-2] > 1e-5 * best[-1]  # FP32 may choose between equals
        assert clear.mean() > 0.99
        np.testing.assert_array_equal(result.masks[index][clear], sums.argmax(axis=0)[clear])
        share = 255 * best[-1] / sums.sum(axis=0)
        np.testing.assert_allclose(result.confidence[index], share, atol=0.51)
    assert len(np.unique(result.masks)) == 4, "a class is never seen"
    plan = [spans(length, tile, tiling) for length, tile in ((101, 24), (157, 32))]
    tiles = [cut(frames[0], row.start, column.start, (24, 32)) for row, column in product(*plan)]
    presence = whole.infer(whole.preprocess(tiles)).presence
    assert presence is not None
    np.testing.assert_allclose(result.presence[0], presence.max(axis=0), rtol=1e-6)


# Memory


_RUN = """
import sys
from pathlib import Path
from edgeunet.cli import main
main(sys.argv[1:], standalone_mode=False)
status = Path("/proc/self/status").read_text()
print(int(status.split("VmHWM:")[1].split()[0]) / 1024)
"""


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="Linux tells the peak")
def test_36_megapixels_take_no_more_than_900_mb(cells_bundle: Path, tmp_path: Path) -> None:
    """Read, segmented and written, with the weights that come along."""
    patch = scene(512, 640, seed=2)
    image = np.tile(patch, (12, 10, 1))[:6_000, :6_000]
    source = write_png(tmp_path / "large.png", image)
    arguments = ["run", cells_bundle, source, "-o", tmp_path / "masks", "--tile", "--batch", 4]
    arguments += ["--overlap", 0.125]
    done = subprocess.run(
        [sys.executable, "-c", _RUN, *map(str, arguments)],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert float(done.stdout.splitlines()[-1]) < 900
    mask = read_mask_png(tmp_path / "masks" / "large.png")
    assert mask.shape == (6_000, 6_000)
    assert len(np.unique(mask)) == 3
    # The patch's sides are multiples of 32: it looks alike to the net wherever it lies.
    with load(cells_bundle, tiling=Tiling(overlap=0.125)) as segmenter:
        wanted = segmenter([image[:1536, :1920]]).masks[0][512:1024, 640:1280]
    places = mask[512:5632, 640:5760].reshape(10, 512, 8, 640).swapaxes(1, 2)
    assert np.mean(places == wanted) > 0.98


# Early exit


@pytest.fixture(scope="module")
def gated(gated_bundle: Path) -> Bundle:
    return open_bundle(gated_bundle)


def test_tiles_with_a_closed_gate_spare_the_decoder(
    gated: Bundle, gated_frames: list[CellFrame], monkeypatch: pytest.MonkeyPatch
) -> None:
    decoded: list[int] = []
    decode = OrtNet.decode

    def counting(net: OrtNet, features: Arrays) -> npt.NDArray[np.float32]:
        decoded.append(len(features[0]))
        return decode(net, features)

    filled = [frame.image for frame in gated_frames if frame.mask.any()][:2]
    empty = [frame.image for frame in gated_frames if not frame.mask.any()][:2]
    quarters = [filled[0], empty[0], empty[1], filled[1]]
    image = np.vstack([np.hstack(quarters[:2]), np.hstack(quarters[2:])])
    with create_backend("onnxruntime", gated) as whole:
        wanted = whole.segment(Batch.of(quarters))
        monkeypatch.setattr(OrtNet, "decode", counting)
        found = TiledBackend(whole, Tiling(overlap=0, batch=4)).segment(Batch.of([image]))
    assert decoded == [2]
    assert wanted.presence is not None and found.presence is not None
    np.testing.assert_array_equal(found.presence[0], wanted.presence.max(axis=0))
    # Probabilities may be equal where logits are not.
    mask = np.vstack([np.hstack(wanted.masks[:2]), np.hstack(wanted.masks[2:])])
    assert np.mean(found.masks[0] == mask) >= 0.9999
    assert len(np.unique(mask)) == 3


# Segmenter


@pytest.fixture(scope="module")
def segmenter(fp32_bundle: Path) -> Iterator[Segmenter]:
    with load(fp32_bundle, tiling=Tiling(overlap=0.5, batch=4)) as loaded:
        yield loaded


def scene(height: int, width: int, seed: int = 0) -> Frame:
    return next(iter(snapshots(1, height=height, width=width, seed=seed))).image


def test_image_of_the_nets_own_size_is_segmented_as_without_tiles(
    fp32_bundle: Path, segmenter: Segmenter
) -> None:
    image = scene(64, 96, seed=3)
    with load(fp32_bundle) as whole:
        wanted = whole([image], confidence=True)
    found = segmenter([image], confidence=True)
    assert np.mean(found.masks == wanted.masks) >= 0.9999
    assert found.confidence is not None and wanted.confidence is not None
    np.testing.assert_allclose(found.confidence.astype(int), wanted.confidence, atol=1)
    assert len(np.unique(wanted.masks)) > 1


@pytest.mark.parametrize("size", [(1, 1), (1, 500), (333, 1), (30, 50), (200, 301)])
def test_masks_have_the_images_size(segmenter: Segmenter, size: tuple[int, int]) -> None:
    result = segmenter([np.full((*size, 3), 90, np.uint8)] * 2)
    assert result.masks.shape == (2, *size)
    assert min(vars(result.timings).values()) > 0


def test_gray_and_deep_images_equal_their_rgb_form(segmenter: Segmenter) -> None:
    rgb = scene(150, 201)
    wanted = segmenter([rgb]).masks
    np.testing.assert_array_equal(segmenter([rgb * np.uint16(257)]).masks, wanted)
    gray = rgb[..., 1]
    np.testing.assert_array_equal(
        segmenter([gray * np.uint16(257)]).masks, segmenter([np.dstack([gray] * 3)]).masks
    )


def test_frames_of_several_sizes_are_refused(segmenter: Segmenter) -> None:
    with pytest.raises(FrameError, match="64x96, 64x97"):
        segmenter([np.zeros((64, 97, 3), np.uint8), np.zeros((64, 96, 3), np.uint8)])


def test_stream_equals_calls_also_where_sizes_change(segmenter: Segmenter) -> None:
    images = [scene(90, 130, seed=index) for index in range(3)] + [scene(50, 200)]
    frames = (SourceFrame(index, "", image) for index, image in enumerate(images))
    came = list(segmenter.stream(frames, batch=2))
    assert [frame.index for frame, _ in came] == [0, 1, 2, 3]
    for (_, mask), image in zip(came, images, strict=True):
        np.testing.assert_array_equal(mask, segmenter([image]).masks[0])


def test_self_check_compares_as_the_golden_masks_were_made(
    fp32_bundle: Path, segmenter: Segmenter
) -> None:
    with load(fp32_bundle) as whole:
        assert segmenter.self_check() == whole.self_check() >= 0.9999


def test_batch_that_the_bundle_cannot_take_is_refused_before_a_backend_is_opened(
    fp32_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edgeunet.runtime.segmenter.open_backend", None)
    with pytest.raises(UsageError, match=r"batch is 5; .* 1 to 4.*--max-batch"):
        load(fp32_bundle, tiling=Tiling(batch=5))


def test_fault_of_what_computes_is_raised_and_leaves_no_thread(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    whole = Bright(bundle_of(16, 16))
    infer = whole.infer

    def failing(images: npt.NDArray[np.float32]) -> NetOutputs:
        if len(whole.calls) == 5:
            raise BackendError("the GPU is lost.")
        return infer(images)

    monkeypatch.setattr(whole, "infer", failing)
    with pytest.raises(BackendError, match="the GPU is lost"):
        TiledBackend(whole, Tiling()).segment(Batch.of(noise(100, 100)))
    assert [thread.name for thread in threading.enumerate() if "edgeunet" in thread.name] == []


def test_closes_what_computes() -> None:
    whole = Bright(bundle_of(16, 16))
    with TiledBackend(whole, Tiling()) as tiled:
        assert (tiled.name, tiled.inner) == ("bright", whole)
        assert not whole.closed
    assert whole.closed


# Command line


def test_run_tiles_images(fp32_bundle: Path, segmenter: Segmenter, tmp_path: Path) -> None:
    image = scene(150, 220)
    source = write_png(tmp_path / "large.png", image)
    output = tmp_path / "masks"
    succeeds(
        "run", fp32_bundle, source, "-o", output, "--tile", "--overlap", 0.5, "--batch", 4,
    )  # fmt: skip
    mask = read_mask_png(output / "large.png")
    np.testing.assert_array_equal(mask, segmenter([image]).masks[0])
    succeeds("run", fp32_bundle, source, "-o", output, "--tile", "--blend", "valid", "--force")
    assert (read_mask_png(output / "large.png") != mask).any()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--overlap", 0.5], "--overlap needs --tile"),
        (["--blend", "valid"], "--blend needs --tile"),
        (["--tile", "--overlap", 0.8], "0.8 is not in the range 0<=x<=0.75"),
        (["--tile", "--blend", "max"], "'max' is not one of"),
        (["--tile", "--batch", 5], "batch is 5; the bundle takes 1 to 4"),
    ],
    ids=str,
)
def test_run_refuses_options_that_do_not_fit(
    fp32_bundle: Path, tmp_path: Path, options: list[object], words: str
) -> None:
    source = write_png(tmp_path / "large.png", scene(80, 80))
    assert words in fails(2, "run", fp32_bundle, source, *options)
