"""Which frames calibrate: sources, the diverse selection, and what is held out."""

from __future__ import annotations

import zipfile
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from edgeunet.bundle.calibration_table import read_table
from edgeunet.bundle.manifest import InputSpec
from edgeunet.data.cells import snapshots, write_dataset
from edgeunet.data.datasets import open_dataset
from edgeunet.data.fit import Fit
from edgeunet.errors import CalibrationError, DatasetError, SourceError
from edgeunet.exporting import ExportOptions, export_bundle
from edgeunet.exporting.int8.calibration import frames as sources
from edgeunet.exporting.int8.calibration.frames import (
    Candidates,
    FrameSet,
    describe_source,
    drawn_selection,
    select,
)
from edgeunet.runtime.frames import Frame
from edgeunet.runtime.sinks import VideoWriter
from edgeunet.runtime.sources.video import Pixels
from support.layouts import ELEVEN
from support.media import number_of, numbered_frame, write_png, write_video

FIT = Fit(InputSpec(64, 96))


def images(folder: Path, count: int, *, size: tuple[int, int] = (64, 96)) -> Path:
    folder.mkdir(exist_ok=True)
    for index in range(count):
        write_png(folder / f"{index:03}.png", numbered_frame(index % 12, size))
    return folder


# Folders


def described(path: Path, *, num_classes: int = 3) -> Candidates:
    return describe_source(path, num_classes=num_classes, fit=FIT)


def test_folder_gives_chosen_frames_and_others_that_are_held_out(tmp_path: Path) -> None:
    selection = select(described(images(tmp_path / "frames", 12)))
    assert len(selection.chosen) == 9
    assert len(selection.held_out) == 3
    assert not set(selection.chosen.numbers) & set(selection.held_out.numbers)
    for frames in (selection.typical, selection.chosen, selection.held_out):
        assert frames.name == "frames"
        assert [number_of(frame) for frame in frames.frames] == list(frames.numbers)


def test_short_source_is_compared_on_what_calibrated(tmp_path: Path) -> None:
    selection = select(described(images(tmp_path / "frames", 3)))
    assert len(selection.chosen) == 3
    assert selection.held_out == selection.chosen


def test_sizes_may_differ_and_golden_frames_are_of_one(tmp_path: Path) -> None:
    folder = images(tmp_path / "frames", 4)
    write_png(folder / "large.png", numbered_frame(7, (40, 250)))
    selection = select(described(folder))
    assert {frame.shape[:2] for frame in selection.typical.frames} == {(64, 96), (40, 250)}
    golden = selection.chosen.alike(4)
    assert {frame.shape for frame in golden} == {golden[0].shape}


def test_more_frames_than_candidates_are_looked_at_evenly(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sources, "CANDIDATES", 4)
    assert list(described(images(tmp_path / "frames", 12)).descriptors) == [0, 4, 7, 11]


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("empty", "holds no image"),
        ("absent", "does not exist"),
        ("text.txt", "is neither an image"),
        ("/dev/null", "cannot be read twice"),
    ],
)
def test_what_holds_no_frames_is_refused_by_name(tmp_path: Path, kind: str, words: str) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "text.txt").write_text("no frames")
    with pytest.raises(CalibrationError, match=rf"{kind} {words}.* Pass --calib a folder with"):
        described(tmp_path / kind)


def test_one_image_and_a_glob_are_frames_too(tmp_path: Path) -> None:
    folder = images(tmp_path / "frames", 12)
    assert list(described(folder / "003.png").descriptors) == [0]
    assert list(described(folder / "00?.png").descriptors) == list(range(10))


def test_camera_is_refused() -> None:
    with pytest.raises(CalibrationError, match=r"gst:videotestsrc.*cannot be read twice.*--calib"):
        described(Path("gst:videotestsrc ! appsink"))


def test_damaged_image_is_named(tmp_path: Path) -> None:
    folder = images(tmp_path / "frames", 2)
    (folder / "zz.png").write_bytes(b"no picture")
    with pytest.raises(SourceError, match=r"zz\.png cannot be read"):
        described(folder)


def test_folders_inside_are_read_but_not_those_of_masks(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for number, place in enumerate(("", "a", "a/b", "masks", "a/Labels", ".trash")):
        folder = tmp_path / place
        folder.mkdir(exist_ok=True)
        write_png(folder / f"{number}.png", numbered_frame(number))
    candidates = described(tmp_path)
    assert [number_of(frame) for frame in candidates.take({0, 1, 2}).values()] == [0, 1, 2]
    assert len(candidates.descriptors) == 3
    assert "not read: 1 hidden (.trash), 2 other (masks, Labels)." in caplog.text


# Data sets


@pytest.mark.parametrize("layout", ELEVEN)
def test_every_layout_calibrates(layout: str, tmp_path: Path) -> None:
    ELEVEN[layout](tmp_path)
    candidates = described(tmp_path)
    assert candidates.name == f"{tmp_path.name}, training images"
    assert len(candidates.descriptors) >= 3
    named = describe_source(
        tmp_path, num_classes=len(open_dataset(tmp_path).classes), fit=FIT, layout=layout
    )
    assert named.mask is not None
    assert named.mask(0).shape == (48, 64)


def test_data_set_gives_its_training_images_with_labels(tmp_path: Path) -> None:
    write_dataset(tmp_path / "data", train=3, val=2, height=64, width=96)
    candidates = described(tmp_path / "data")
    assert {path.parent.parent.name for path in candidates.frames.files} == {"train"}
    assert candidates.name == "cells, training images"
    assert candidates.mask is not None
    assert candidates.mask(1).shape == (64, 96)
    assert select(candidates).held_out.mask is candidates.mask


def test_data_set_of_other_classes_has_no_labels(tmp_path: Path) -> None:
    write_dataset(tmp_path / "data", train=3, val=2, height=64, width=96)
    assert described(tmp_path / "data", num_classes=11).mask is None


def test_damaged_data_set_is_refused(tmp_path: Path) -> None:
    write_dataset(tmp_path / "data", train=3, val=2, height=64, width=96)
    (tmp_path / "data" / "train" / "masks" / "000001.png").unlink()
    with pytest.raises(DatasetError, match=r"no mask for 1 images, 000001\.png"):
        described(tmp_path / "data")


# Videos


def test_video_gives_its_frames_by_number(tmp_path: Path) -> None:
    candidates = described(write_video(tmp_path / "clip.mp4", 12))
    assert (candidates.name, candidates.mask) == ("clip.mp4", None)
    assert list(candidates.descriptors) == list(range(12))
    taken = candidates.take({7, 2})
    assert {number: number_of(frame) for number, frame in taken.items()} == {2: 2, 7: 7}
    chosen = select(candidates).chosen
    assert [number_of(frame) for frame in chosen.frames] == list(chosen.numbers)


def test_film_is_decoded_twice_however_many_depths_are_exported(
    depths_checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    film = tmp_path / "film.mp4"
    with VideoWriter(film, rate=Fraction(25)) as video:
        for frame in snapshots(20, height=64, width=96, seed=6):
            video.write(frame.image)
    decoded = []
    convert = Pixels.__call__

    def counted(self: Pixels, frame: object) -> Frame:
        decoded.append(frame)
        return convert(self, frame)

    monkeypatch.setattr(Pixels, "__call__", counted)
    # One method is compared with FP32 on the frames that are held out, as several would be.
    monkeypatch.setattr("edgeunet.exporting.int8.calibration.calibrate.METHODS", ("minmax",))
    options = ExportOptions(
        "unetpp",
        str(depths_checkpoint),
        precision="int8",
        depths=(1, 2),
        calib=film,
        max_iou_drop=100,
    )
    export_bundle(tmp_path / "bundle", options)
    assert 20 < len(decoded) <= 2 * 20
    table = read_table(tmp_path / "bundle" / "calibration.json")
    assert (table.source, table.frames) == ("film.mp4", 15)


def test_long_video_is_looked_at_evenly_in_bounded_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sources, "CANDIDATES", 4)
    assert list(described(write_video(tmp_path / "clip.mkv", 12)).descriptors) == [0, 4, 8]


def test_damaged_video_is_refused(tmp_path: Path) -> None:
    (tmp_path / "clip.mp4").write_bytes(b"no video")
    with pytest.raises(SourceError, match=r"clip\.mp4 cannot be read"):
        described(tmp_path / "clip.mp4")


def test_pages_and_archives_are_frames_too(tmp_path: Path) -> None:
    first, *others = [Image.fromarray(numbered_frame(number)) for number in range(4)]
    first.save(tmp_path / "stack.tif", save_all=True, append_images=others)
    write_png(tmp_path / "x.png", numbered_frame(5))
    candidates = described(tmp_path)
    assert list(candidates.descriptors) == [0, 1, 2, 3, 4]
    taken = candidates.take({2, 4})
    assert {number: number_of(frame) for number, frame in taken.items()} == {2: 2, 4: 5}
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as file:
        for path in sorted(images(tmp_path / "frames", 6).iterdir()):
            file.write(path, path.name)
    selection = select(described(tmp_path / "a.zip"))
    assert [number_of(frame) for frame in selection.chosen.frames] == list(selection.chosen.numbers)


# Frames in memory


def test_drawn_frames_calibrate_in_their_order_and_the_rest_is_held_out() -> None:
    drawn = tuple(numbered_frame(index % 12) for index in range(40))
    masks = [np.full((64, 96), index % 3, np.uint8) for index in range(40)]
    frames = FrameSet("drawn", tuple(range(40)), drawn, masks.__getitem__)
    selection = drawn_selection(frames)
    assert selection.procedural
    assert selection.chosen.numbers == tuple(range(32))
    assert selection.held_out.numbers == tuple(range(32, 40))
    numbers = [number_of(frame) for frame in selection.held_out.frames]
    assert numbers == [8, 9, 10, 11, 0, 1, 2, 3]
    assert selection.held_out.mask is not None
    assert selection.held_out.mask(34)[0, 0] == 1
