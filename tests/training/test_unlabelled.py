"""Frames without labels: found, read, written once if they are a video's, and cropped."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from edgeunet.bundle.manifest import InputSpec
from edgeunet.data.datasets import open_dataset
from edgeunet.data.resize import resize_frame
from edgeunet.errors import DatasetError, SourceError, UsageError
from edgeunet.runtime.backends.preprocess import Preprocessor
from edgeunet.training.augment import Augmentation
from edgeunet.training.photometry import Photometry
from edgeunet.training.unlabelled import Unlabelled, UnlabelledCrops
from support.media import (
    cut_to,
    lose_packets,
    number_of,
    numbered_frame,
    read_rgb,
    write_film,
    write_png,
    write_video,
)

SPEC = InputSpec(32, 48)


def opened(where: Path | str, folder: Path, notes: list[str] | None = None) -> Unlabelled:
    """The frames at a path; what is told goes into `notes`, or there must be nothing."""
    told: list[str] = []
    found = Unlabelled.open(where, SPEC, folder, tell=told.append)
    if notes is None:
        assert told == []
    else:
        notes += told
    return found


def pictures(folder: Path, *names: str) -> Path:
    for index, name in enumerate(names):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        write_png(folder / name, numbered_frame(index))
    return folder


def test_folder_gives_its_images_and_those_of_its_folders_but_no_masks(tmp_path: Path) -> None:
    folder = pictures(tmp_path / "more", "10.png", "9.png", "b/1.png", "b/masks/1.png")
    notes: list[str] = []
    found = opened(folder, tmp_path, notes)
    names = [path.relative_to(folder).as_posix() for path in found.files]
    assert names == ["9.png", "10.png", "b/1.png"]
    assert notes == [f"{folder}: not read: 1 other (masks)."]
    assert found.record == {
        "name": "more", "frames": 3, "unreadable": 0, "sha256": found.sha256,
    }  # fmt: skip
    assert len(opened(f"{folder}/*.png", tmp_path).files) == 2
    assert len(opened(folder / "9.png", tmp_path).files) == 1


def test_data_set_gives_its_training_images(data: Path, tmp_path: Path) -> None:
    wanted = [sample.image for sample in open_dataset(data).samples("train")]
    assert list(opened(data, tmp_path).files) == wanted


def test_identity_is_that_of_the_contents(tmp_path: Path) -> None:
    one = pictures(tmp_path / "one", "1.png", "2.png")
    two = shutil.copytree(one, tmp_path / "two")
    first = opened(one, tmp_path)
    assert opened(two, tmp_path).sha256 == first.sha256
    write_png(two / "2.png", numbered_frame(7))
    assert opened(two, tmp_path).sha256 != first.sha256


def test_unreadable_frames_are_named_counted_and_left_out(tmp_path: Path) -> None:
    folder = pictures(tmp_path / "more", "1.png", "2.png", "3.png")
    cut_to(folder / "2.png", 0.5)
    (folder / "3.png").write_bytes(b"no image")
    cv2.imwrite(str(folder / "4.tiff"), np.ones((8, 8), np.float32))
    notes: list[str] = []
    found = opened(folder, tmp_path, notes)
    assert [path.name for path in found.files] == ["1.png"]
    assert found.unreadable == 3
    for note, name in zip(notes, ("2.png", "3.png", "4.tiff"), strict=False):
        assert note.startswith("left out: ")
        assert name in note
    assert notes[3:] == [f"{folder}: 3 of 4 frames are left out."]


def test_ten_frames_are_named_at_most(tmp_path: Path) -> None:
    folder = pictures(tmp_path / "more", "0.png")
    for index in range(1, 15):
        (folder / f"{index}.png").write_bytes(b"no image")
    notes: list[str] = []
    assert opened(folder, tmp_path, notes).unreadable == 14
    assert len(notes) == 11
    assert notes[-1].endswith("14 of 15 frames are left out.")


def test_nothing_to_read_is_an_error_with_a_reason(tmp_path: Path) -> None:
    folder = pictures(tmp_path / "more", "1.png", "2.png")
    for path in folder.iterdir():
        path.write_bytes(b"no image")
    with pytest.raises(SourceError, match=r"none of the 2 frames of .*more can be used.*1\.png"):
        opened(folder, tmp_path)
    (tmp_path / "empty").mkdir()
    with pytest.raises(SourceError, match="empty holds no image"):
        opened(tmp_path / "empty", tmp_path)
    with pytest.raises(SourceError, match="none does not exist"):
        opened(tmp_path / "none", tmp_path)
    (tmp_path / "empty" / "dataset.json").write_text("{}")
    with pytest.raises(DatasetError):
        opened(tmp_path / "empty", tmp_path)


def test_other_sources_are_refused_by_name(tmp_path: Path) -> None:
    archive = shutil.make_archive(
        str(tmp_path / "more"), "zip", pictures(tmp_path / "more", "1.png")
    )
    with pytest.raises(UsageError, match=r"more\.zip is of the kind archive; expected images or a"):
        opened(archive, tmp_path)
    with pytest.raises(UsageError, match="of the kind live"):
        opened("rtsp://127.0.0.1:1/none", tmp_path)


# Videos


def test_frames_of_a_video_are_written_once_at_the_size_of_the_net(tmp_path: Path) -> None:
    video = write_video(tmp_path / "film.mp4", 5)
    found = opened(video, tmp_path / "run")
    frames = [read_rgb(path) for path in found.files]
    assert [number_of(frame) for frame in frames] == list(range(5))
    assert {frame.shape for frame in frames} == {(32, 48, 3)}
    wanted = resize_frame(numbered_frame(2), (32, 48), "bilinear").astype(float)
    assert np.abs(frames[2] - wanted).mean() < 6  # H.264
    assert (found.name, found.unreadable) == ("film.mp4", 0)
    written = {path: path.stat().st_mtime_ns for path in found.files}
    assert opened(video, tmp_path / "run") == found
    assert {path: path.stat().st_mtime_ns for path in found.files} == written
    larger = Unlabelled.open(video, InputSpec(64, 96), tmp_path / "run")
    assert read_rgb(larger.files[0]).shape == (64, 96, 3)


def test_writing_that_was_interrupted_begins_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    video = write_video(tmp_path / "film.mp4", 5)
    whole = opened(video, tmp_path / "whole")
    with monkeypatch.context() as patch:
        patch.setattr("edgeunet.training.unlabelled.write_json", lambda *given: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            opened(video, tmp_path / "run")
    (left,) = (tmp_path / "run" / "unlabelled").iterdir()
    (left / "000001.png").write_bytes(b"half")
    assert opened(video, tmp_path / "run").sha256 == whole.sha256


@pytest.mark.parametrize(("most", "wanted"), [(12, 12), (11, 6), (5, 3), (2, 2), (1, 1)])
def test_long_video_is_thinned_evenly(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, most: int, wanted: int
) -> None:
    monkeypatch.setattr("edgeunet.training.unlabelled.MOST_FRAMES", most)
    found = opened(write_video(tmp_path / "film.mp4", 12), tmp_path)
    numbers = [int(path.stem) for path in found.files]
    assert len(numbers) == wanted
    assert len(set(np.diff(numbers))) <= 1
    assert sorted(path.name for path in found.files[0].parent.glob("*.png")) == [
        path.name for path in found.files
    ]


def test_damaged_and_truncated_videos_give_what_can_be_read(tmp_path: Path) -> None:
    options = {"x264-params": "bframes=2:keyint=12:min-keyint=12:scenecut=0"}
    damaged = lose_packets(write_film(tmp_path / "clip.ts", "libx264", options=options), 0.3)
    notes: list[str] = []
    found = opened(damaged, tmp_path, notes)
    assert len(found.files) + found.unreadable == 24
    assert found.unreadable > 0
    assert notes[0].startswith(f"left out: {damaged} is damaged at frame ")
    assert notes[-1] == f"{damaged}: {found.unreadable} of 24 frames are left out."
    assert opened(damaged, tmp_path) == found  # told once, but counted again
    short = cut_to(write_video(tmp_path / "short.mp4", 12, index_first=True), 0.6)
    notes.clear()
    found = opened(short, tmp_path, notes)
    assert 0 < len(found.files) < 12
    assert found.unreadable > 0
    assert any("short.mp4" in note for note in notes)
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(b"no video")
    with pytest.raises(SourceError, match=r"broken\.mp4"):
        opened(broken, tmp_path)


# Crops


def crops_of(folder: Path, *, epoch_seed: int = 0, count: int = 6) -> UnlabelledCrops:
    augment = Augmentation((16, 24), scale=(0.7, 1.4))
    frames = opened(folder, folder)
    return UnlabelledCrops(
        frames, SPEC, augment, Photometry(), size=count, steps=1, epoch_seed=epoch_seed
    )


@given(seed=st.integers(0, 2**31), index=st.integers(0, 5))
def test_crop_depends_on_epoch_and_index_alone(
    seed: int, index: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("more")
    pictures(folder, "1.png", "2.png", "3.png")
    one, two = (crops_of(folder, epoch_seed=seed) for _ in range(2))
    two[5 - index]
    assert torch.equal(one[index], two[index])
    assert one[index].shape == (3, 16, 24)
    others = crops_of(folder, epoch_seed=seed + 1)
    assert not torch.equal(one[index], others[index])


def test_all_frames_are_cropped_alike_often(tmp_path: Path) -> None:
    pictures(tmp_path, "1.png", "2.png", "3.png")
    still = Augmentation((32, 48), scale=(1, 1), rotation=0)
    light = Photometry()
    crops = UnlabelledCrops(opened(tmp_path, tmp_path), SPEC, still, light, size=10, steps=30)
    wanted = Preprocessor(SPEC)([numbered_frame(index) for index in range(3)])
    level = 1 / (255 * min(SPEC.std))
    counts = [0, 0, 0]
    for index in range(len(crops)):
        image = crops[index].numpy()
        gaps = [min(np.abs(f - each).max() for f in (image, image[..., ::-1])) for each in wanted]
        assert min(gaps) < 1.6 * level  # what `run` makes of the frame, rounded
        counts[int(np.argmin(gaps))] += 1
    assert min(counts) > 70


def test_batches_do_not_depend_on_the_number_of_workers_nor_draw_from_pytorch(
    tmp_path: Path,
) -> None:
    pictures(tmp_path, "1.png", "2.png", "3.png")
    crops = replace(crops_of(tmp_path), size=2, steps=3)
    torch.manual_seed(0)
    wanted = torch.rand(1)
    torch.manual_seed(0)
    found = [list(crops.batches(7, workers)) for workers in (0, 1)]
    assert torch.equal(torch.rand(1), wanted)
    assert [len(batch) for batch in found[0]] == [2, 2, 2]
    assert all(torch.equal(one, two) for one, two in zip(*found, strict=True))


@pytest.mark.parametrize(
    ("size", "labelled", "wanted"), [(1, 1, "axbycz"), (1, 2, "axbyc"), (2, 1, "xaxybyzcz")]
)
def test_frames_are_mixed_among_labelled_images_in_their_share(
    size: int, labelled: int, wanted: str
) -> None:
    frames = Unlabelled("more", tuple(map(Path, "xyz")), ())
    crops = UnlabelledCrops(
        frames, SPEC, Augmentation((8, 8), (1, 1)), Photometry(), size=size, steps=1
    )
    mixed = crops.among(list(map(Path, "abc")), labelled=labelled)
    assert "".join(map(str, mixed)) == wanted
