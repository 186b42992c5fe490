"""Directories of masks, functions, and the choice of a sink by its output."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from edgeunet.errors import OutputExistsError, UsageError
from edgeunet.runtime.frames import Segmented
from edgeunet.runtime.sinks import JsonLines, MaskDirectory, NullSink, OverlayVideo, open_sink
from edgeunet.runtime.sources import Frames
from support.masks import CLASSES, PALETTE, frame, names, no_class, segmented, write
from support.media import Frame, read_mask_png, write_video

RATE = Fraction(25)


# Masks


@given(masks=st.lists(hnp.arrays(np.uint8, hnp.array_shapes(min_dims=2, max_dims=2)), max_size=4))
def test_masks_are_stored_losslessly_in_order(
    masks: list[Frame], tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("masks") / "new" / "run"
    with MaskDirectory(folder) as sink:
        for index, mask in enumerate(masks):
            write(sink, frame(), mask, index=index)
    assert names(folder) == [f"{index:06d}.png" for index in range(len(masks))]
    for name, mask in zip(names(folder), masks, strict=True):
        stored = read_mask_png(folder / name)
        assert stored.dtype == np.uint8
        np.testing.assert_array_equal(stored, mask)


def test_mask_files_can_be_read_by_others(tmp_path: Path) -> None:
    with MaskDirectory(tmp_path / "run") as sink:
        write(sink, frame(), no_class())
    assert (tmp_path / "run" / "000000.png").stat().st_mode & 0o777 == 0o644


def test_empty_directory_is_taken(tmp_path: Path) -> None:
    with MaskDirectory(tmp_path) as sink:
        write(sink, frame(), no_class())
    assert names(tmp_path) == ["000000.png"]


def test_directory_that_holds_something_is_refused(tmp_path: Path) -> None:
    (tmp_path / "000007.png").write_bytes(b"old")
    with pytest.raises(OutputExistsError, match="--force"):
        MaskDirectory(tmp_path)
    assert (tmp_path / "000007.png").read_bytes() == b"old"


@pytest.mark.parametrize("old", ["000000.png", "000007.png", "1000000.png"])
def test_force_removes_the_masks_of_an_earlier_run(tmp_path: Path, old: str) -> None:
    (tmp_path / old).write_bytes(b"old")
    (tmp_path / "notes.txt").write_bytes(b"kept")
    others = ["000.png", "0000001.png", "12345.png", "figure.png", "٠٠٠٠٠٠.png"]
    for name in others:
        (tmp_path / name).write_bytes(b"kept")
    with MaskDirectory(tmp_path, force=True) as sink:
        write(sink, frame(), no_class())
    assert names(tmp_path) == sorted(["000000.png", "notes.txt", *others])
    np.testing.assert_array_equal(read_mask_png(tmp_path / "000000.png"), no_class())


@pytest.mark.parametrize("force", [False, True])
def test_file_in_place_of_the_mask_directory_is_refused(tmp_path: Path, force: bool) -> None:
    (tmp_path / "run").write_bytes(b"kept")
    with pytest.raises(UsageError, match="run is a file; expected a directory"):
        MaskDirectory(tmp_path / "run", force=force)
    assert (tmp_path / "run").read_bytes() == b"kept"


# Choice


@pytest.mark.parametrize(
    ("output", "kind"),
    [
        ("-", NullSink),
        ("out.mp4", OverlayVideo),
        ("out.MP4", OverlayVideo),
        ("out.jsonl", JsonLines),
        ("out", MaskDirectory),
    ],
)
def test_output_chooses_the_sink(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, output: str, kind: type
) -> None:
    monkeypatch.chdir(tmp_path)
    with open_sink(output, rate=RATE, classes=CLASSES, palette=PALETTE) as sink:
        assert type(sink) is kind
        write(sink, frame(), no_class())
    assert names(tmp_path) == ([] if output == "-" else [output])


@pytest.mark.parametrize("output", ["out.avi", "out.png", "run/out.mkv", "pipe:", "pipe:video"])
def test_other_outputs_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, output: str
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match=rf"{output}: .*NAME\.mp4 .*a directory .*-"):
        open_sink(output, rate=RATE, classes=CLASSES, palette=PALETTE)
    assert names(tmp_path) == []


@pytest.mark.parametrize("name", ["out.mp4", "out.jsonl", "out"])
def test_force_reaches_the_sink(tmp_path: Path, name: str) -> None:
    def run(force: bool) -> None:
        with open_sink(
            str(tmp_path / name), rate=RATE, classes=CLASSES, palette=PALETTE, force=force
        ) as sink:
            write(sink, frame(), no_class())

    run(False)
    with pytest.raises(OutputExistsError):
        run(False)
    run(True)


@pytest.mark.parametrize("force", [False, True])
@pytest.mark.parametrize(
    ("source", "output"),
    [
        ("images", "images"),
        ("images", "images/../images"),
        ("images/000000.png", "images"),
        ("images/*.png", "images"),
        ("**/*.png", "images"),
        ("link", "images"),
        ("clip.mp4", "clip.mp4"),
    ],
)
def test_output_that_could_replace_the_source_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: str, output: str, force: bool
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "images").mkdir()
    (tmp_path / "link").symlink_to("images")
    kept = [tmp_path / "images" / "000000.png", write_video(tmp_path / "clip.mp4", 1)]
    kept[0].write_bytes(b"kept")
    before = [path.read_bytes() for path in kept]
    files = Frames.open(source).read().files
    with pytest.raises(UsageError, match="is the source or its directory"):
        open_sink(output, rate=RATE, classes=CLASSES, palette=PALETTE, sources=files, force=force)
    assert [path.read_bytes() for path in kept] == before


@pytest.mark.parametrize("source", ["images", "images/a.png", "clip.mp4"])
def test_output_beside_the_source_is_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "a.png").write_bytes(b"kept")
    write_video(tmp_path / "clip.mp4", 1)
    files = Frames.open(source).read().files
    for output in ("masks", "images/masks", "out.mp4", "-"):
        open_sink(output, rate=RATE, classes=CLASSES, palette=PALETTE, sources=files).close()
    assert (tmp_path / "images" / "a.png").read_bytes() == b"kept"


# Functions


def test_function_gets_what_came_out() -> None:
    came: list[Segmented] = []
    frames = [segmented(np.full((4, 6), index, np.uint8), index=index) for index in range(3)]
    with open_sink(came.append, rate=None, classes=CLASSES, palette=PALETTE) as sink:
        for frame in frames:
            sink.write(frame)
    assert all(one is other for one, other in zip(came, frames, strict=True))
