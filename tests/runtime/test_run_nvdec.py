"""`run --decoder nvdec` on the fake GPU: frames stay there up to their masks, or it is refused."""

from __future__ import annotations

import gc
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from edgeunet.data.fit import Reading
from edgeunet.errors import IncompleteError, UsageError
from edgeunet.runtime import Segmenter, load
from edgeunet.runtime.frames import Segmented
from edgeunet.runtime.gpu.frames import DeviceFrame, FramePool
from edgeunet.runtime.options import LoadOptions, Tiling
from edgeunet.runtime.run import run
from edgeunet.runtime.sources import Frames
from support.commands import data, fails, visible
from support.depths import edit
from support.fake_nvdec import FakeNvdec, fake_nvdec
from support.gpu_machine import gpu_machine
from support.media import VIDEO_SIZE, read_rgb, write_film, write_png

COUNT = 24
Masks = list[npt.NDArray[np.uint8]]


@pytest.fixture(scope="module")
def bundle(fp32_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    copy = tmp_path_factory.mktemp("trt") / "bundle"  # engines are written into it
    return shutil.copytree(fp32_bundle, copy)


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("films") / "film.mp4"
    return write_film(path, "libx264", count=COUNT, options={"bf": "2", "g": "12"})


@pytest.fixture
def nvdec() -> Iterator[FakeNvdec]:
    with gpu_machine() as machine, fake_nvdec(machine.driver) as made:
        made.pitch = 128
        yield made


@pytest.fixture
def downloads(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Bytes of each frame that came down."""
    found: list[int] = []
    before = FramePool.download

    def download(pool: FramePool, frame: DeviceFrame) -> npt.NDArray[np.uint8]:
        found.append(frame.nbytes)
        return before(pool, frame)

    monkeypatch.setattr(FramePool, "download", download)
    return found


def masks_of(bundle: Path, film: Path, **arguments: Any) -> Masks:
    masks: Masks = []

    def take(segmented: Segmented) -> None:
        masks.append(segmented.mask)

    summary = run(bundle, film, take, backend="tensorrt", **arguments)
    assert summary.frames == summary.stream.read == len(masks)
    return masks


def assert_near(found: Masks, wanted: Masks) -> None:
    """Masks of frames whose colours differ by a level at most."""
    assert len(found) == len(wanted) == COUNT
    assert np.mean(np.stack(found) != np.stack(wanted)) <= 2e-3


@pytest.mark.parametrize("batch", [None, 3])
def test_masks_are_those_of_ffmpeg(
    nvdec: FakeNvdec, bundle: Path, film: Path, downloads: list[int], batch: int | None
) -> None:
    wanted = masks_of(bundle, film, batch=batch)
    assert not downloads
    found = masks_of(bundle, film, batch=batch, decoder="nvdec")
    assert_near(found, wanted)
    assert len(np.unique(np.stack(wanted))) > 1, "one class alone shows nothing"
    # The first is compared with FFmpeg's, and the first eight with those of the export.
    assert len(downloads) <= 9


def test_command_decodes_several_films_at_once_and_draws_overlays(
    nvdec: FakeNvdec, bundle: Path, film: Path, tmp_path: Path
) -> None:
    options = ["--backend", "tensorrt", "--overlay", "-o"]
    sources = [film, shutil.copy(film, tmp_path / "other.mp4")]
    data("run", bundle, *sources, *options, tmp_path / "cpu")
    summary = data("run", bundle, *sources, *options, tmp_path / "gpu", "--decoder", "nvdec")
    assert summary["frames"] == 2 * COUNT
    for source in ("film", "other"):
        found, wanted = (
            np.stack([read_rgb(folder / name) for name in visible(folder)])
            for folder in (tmp_path / "gpu" / source, tmp_path / "cpu" / source)
        )
        assert found.shape == wanted.shape == (COUNT, *VIDEO_SIZE, 3)
        assert np.abs(found.astype(int) - wanted).mean() < 1


def test_every_depth_takes_the_frames_that_are_there(
    nvdec: FakeNvdec, depths_bundle: Path, film: Path, downloads: list[int], tmp_path: Path
) -> None:
    copy = shutil.copytree(depths_bundle, tmp_path / "bundle")
    masks_of(copy, film, decoder="nvdec", options=LoadOptions(target_fps=1))
    assert len(downloads) <= 9


def test_damage_is_told_behind_the_frames_before_it(
    nvdec: FakeNvdec, bundle: Path, film: Path
) -> None:
    nvdec.fails_at = 15
    came: list[Segmented] = []
    with pytest.raises(IncompleteError, match="cannot be decoded by NVDEC behind frame"):
        run(bundle, film, came.append, backend="tensorrt", decoder="nvdec")
    assert 0 < len(came) < 15
    assert [each.frame.index for each in came] == list(range(len(came)))
    came.clear()
    gc.collect()


# Python


def test_other_backends_download_the_frames(
    nvdec: FakeNvdec, bundle: Path, film: Path, downloads: list[int]
) -> None:
    with load(bundle, "onnxruntime") as segmenter:
        wanted = [mask for _, mask in segmenter.stream(film)]
        found = [mask for _, mask in segmenter.stream(Frames.open(film).decoded_on(0))]
    assert_near(found, wanted)
    assert len(downloads) > COUNT


def test_frames_of_another_gpu_are_downloaded(
    bundle: Path, film: Path, downloads: list[int]
) -> None:
    with (
        gpu_machine(devices=2) as machine,
        fake_nvdec(machine.driver),
        load(bundle, "tensorrt") as segmenter,
    ):
        wanted = [mask for _, mask in segmenter.stream(film)]
        assert not downloads
        found = [mask for _, mask in segmenter.stream(Frames.open(film).decoded_on(1))]
    assert_near(found, wanted)
    assert len(downloads) > COUNT


def test_stream_hands_out_the_frames_that_are_there(
    nvdec: FakeNvdec, bundle: Path, film: Path
) -> None:
    with load(bundle, "tensorrt") as segmenter:
        with segmenter.stream(Frames.open(film).decoded_on(0)) as stream:
            for frame, mask in stream:
                assert isinstance(frame.image, DeviceFrame)
                assert frame.image.device == segmenter.backend.gpu == 0
                assert frame.image.shape[:2] == mask.shape
                assert frame.picture.shape == frame.image.shape
        del frame


# Refused, before anything is opened


@pytest.fixture
def nothing_opens(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise AssertionError("opened")

    monkeypatch.setattr(Segmenter, "open_checked", fail)
    monkeypatch.setattr(Frames, "read", fail)


@pytest.mark.usefixtures("nothing_opens")
@pytest.mark.parametrize(
    ("options", "words"),
    [
        ([], "--decoder nvdec needs --backend tensorrt or rtx, got auto"),
        (["--backend", "onnxruntime"], "tensorrt or rtx, got onnxruntime"),
        (["--backend", "rtx", "--tile"], "--tile does not go with --decoder nvdec"),
        (["--backend", "tensorrt", "--temporal", "0.3"], "--temporal does not go with"),
        (["--backend", "tensorrt", "--skip-damaged"], "--skip-damaged does not go with"),
        (["--backend", "tensorrt", "--levels", "0,127"], "as they are"),
        (["--backend", "tensorrt", "--channels", "bgr"], "as they are"),
        (["--workers", "2"], "leave out --decoder"),
    ],
)
def test_what_needs_the_frames_on_the_host(
    bundle: Path, film: Path, tmp_path: Path, options: list[str], words: str
) -> None:
    arguments = ["run", bundle, film, "-o", tmp_path / "out", "--decoder", "nvdec", *options]
    assert words in fails(2, *arguments)


@pytest.mark.usefixtures("nothing_opens")
@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"filter": "torchvision"}, "no CUDA kernel has the filter torchvision"),
        ({"depth": "uint16", "levels": [0, 65535]}, "8-bit RGB as they are"),
    ],
)
def test_bundle_whose_frames_are_prepared_on_the_host(
    bundle: Path, film: Path, tmp_path: Path, change: dict[str, object], words: str
) -> None:
    other = shutil.copytree(bundle, tmp_path / "bundle")
    edit(other / "manifest.json", lambda manifest: manifest["input"].update(change))
    with pytest.raises(UsageError, match=words):
        run(other, film, lambda segmented: None, backend="tensorrt", decoder="nvdec")


@pytest.mark.usefixtures("nothing_opens")
def test_source_that_is_no_film(bundle: Path, tmp_path: Path) -> None:
    image = write_png(tmp_path / "a.png", np.zeros((64, 96, 3), np.uint8))
    with pytest.raises(UsageError, match=r"expected video files, got a\.png"):
        run(bundle, image, lambda segmented: None, backend="tensorrt", decoder="nvdec")


def test_source_that_is_open(bundle: Path, film: Path) -> None:
    with Frames.open(film).read() as source, pytest.raises(UsageError, match="Pass its path"):
        run(bundle, source, lambda segmented: None, backend="tensorrt", decoder="nvdec")


def test_tiles_are_refused_in_python_too(bundle: Path, film: Path) -> None:
    options = LoadOptions(tiling=Tiling(), reading=Reading())
    with pytest.raises(UsageError, match="tiles are cut on the host"):
        run(
            bundle,
            film,
            lambda segmented: None,
            backend="tensorrt",
            options=options,
            decoder="nvdec",
        )


def test_decoders_are_named(bundle: Path, film: Path) -> None:
    told = fails(2, "run", bundle, film, "--decoder", "cuvid")
    assert "ffmpeg" in told
    assert "nvdec" in told
