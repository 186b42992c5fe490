"""Masks and overlays as picture files: their pixels, their names, and what stands beside them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image

from edgeunet.data.images import decode, read_ids, read_picture
from edgeunet.data.tiff import Georeference
from edgeunet.errors import OutputError, OutputExistsError, UsageError
from edgeunet.runtime.frames import Segmented
from edgeunet.runtime.sinks import (
    MaskDirectory,
    OverlayDirectory,
    OverlayPicture,
    colourise,
    encode_mask,
    overlay,
)
from edgeunet.runtime.sinks.pictures import picture_name, picture_names
from edgeunet.runtime.sources import SourceFrame
from support.commands import visible
from support.masks import PALETTE, frame, names, no_class, segmented, write
from support.media import Frame, read_mask_png


def masks(path: Path, *, sources: tuple[str, ...] = (), force: bool = False) -> MaskDirectory:
    files = [Path(name) for name in sources]
    return MaskDirectory(path, palette=PALETTE, sources=files, force=force)


# Pixels


@given(written=st.lists(hnp.arrays(np.uint8, hnp.array_shapes(min_dims=2, max_dims=2)), max_size=4))
def test_masks_are_stored_losslessly_in_order(
    written: list[Frame], tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("masks") / "new" / "run"
    with masks(folder) as sink:
        for index, mask in enumerate(written):
            write(sink, frame(), mask, index=index)
    assert visible(folder) == [f"{index:06d}.png" for index in range(len(written))]
    for name, mask in zip(visible(folder), written, strict=True):
        stored = read_mask_png(folder / name)
        assert stored.dtype == np.uint8
        np.testing.assert_array_equal(stored, mask)


def test_mask_shows_the_colours_of_its_classes(tmp_path: Path) -> None:
    mask = np.array([[0, 1, 2, 255]], np.uint8)
    (tmp_path / "a.png").write_bytes(encode_mask(mask, PALETTE))
    shown = np.asarray(Image.open(tmp_path / "a.png").convert("RGB"))
    np.testing.assert_array_equal(shown, colourise(mask, PALETTE))
    assert shown[0].tolist() == [[0, 0, 0], [255, 0, 0], [0, 0, 255], [255, 255, 255]]


def test_mask_that_is_a_view_keeps_its_ids(tmp_path: Path) -> None:
    mask = np.arange(12, dtype=np.uint8).reshape(3, 4).T
    (tmp_path / "a.png").write_bytes(encode_mask(mask, PALETTE))
    np.testing.assert_array_equal(read_mask_png(tmp_path / "a.png"), mask)


def test_overlays_show_frames_of_other_depths_and_channels(tmp_path: Path) -> None:
    deep = SourceFrame(0, "a.tif", np.full((4, 6, 1), 0.5, np.float32), levels=(0.0, 1.0))
    with OverlayDirectory(tmp_path / "out", palette=PALETTE) as sink:
        sink.write(Segmented(deep, no_class((4, 6))))
    with OverlayPicture(tmp_path / "a.png", palette=PALETTE) as sink:
        sink.write(Segmented(deep, no_class((4, 6))))
    for path in (tmp_path / "out" / "a.png", tmp_path / "a.png"):
        assert (np.asarray(Image.open(path)) == 128).all()


@pytest.mark.parametrize("directory", [MaskDirectory, OverlayDirectory])
def test_pictures_of_a_geotiff_lie_where_it_lies(
    directory: type[MaskDirectory], tmp_path: Path
) -> None:
    """GDAL reads the tags: those that Pillow wrote are the file's own, bit for bit."""
    georeference = Georeference(
        {
            34264: tuple(np.random.default_rng(0).normal(0, 1e6, 16).tolist()),
            34735: (1, 1, 0, 1, 1024, 0, 1, 1),
            34737: "WGS 84|",
        }
    )
    mask = np.arange(24, dtype=np.uint8).reshape(4, 6) % 3
    shown = SourceFrame(0, "field.tif#2", frame((4, 6)), georeference=georeference)
    with directory(tmp_path / "out", palette=PALETTE) as sink:
        sink.write(Segmented(shown, mask))
        write(sink, frame((4, 6)), mask, index=1)
    assert visible(tmp_path / "out") == ["000001.png", "field-2.tif"]
    path = tmp_path / "out" / "field-2.tif"
    assert decode(path.read_bytes(), name="mask").georeference == georeference
    if directory is MaskDirectory:
        np.testing.assert_array_equal(read_ids(path), mask)
        with Image.open(path) as picture:
            np.testing.assert_array_equal(picture.convert("RGB"), colourise(mask, PALETTE))
    else:
        drawn = overlay(frame((4, 6)), mask, PALETTE)
        np.testing.assert_array_equal(read_picture(path).pixels, drawn)


def test_overlays_are_those_of_the_frames(tmp_path: Path) -> None:
    mask = np.array([[0, 1], [2, 1]], np.uint8)
    with OverlayDirectory(tmp_path / "out", palette=PALETTE) as sink:
        sink.write(segmented(mask, name="b.jpg"))
    wanted = overlay(frame((2, 2)), mask, PALETTE)
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "out" / "b.png")), wanted)


# Names


@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        ("a.jpg", "a.png"),
        ("a.b.tif", "a.b.png"),
        ("stack3.tif#2", "stack3-2.png"),
        ("a#2.tif", "a#2.png"),
        ("stra\udcdfe.jpg", "stra\udcdfe.png"),
        ("../../a.jpg", "a.png"),
        ("..", "...png"),
        ("", "000007.png"),
    ],
)
def test_picture_has_the_name_of_its_source(name: str, wanted: str) -> None:
    assert picture_name(name, 7) == wanted


def test_two_images_of_one_name_are_refused_before_anything_is_touched(tmp_path: Path) -> None:
    with masks(tmp_path / "out") as sink:
        sink.write(segmented(no_class(), name="old.png"))
    before = names(tmp_path / "out")
    with pytest.raises(UsageError, match=r"x/a\.jpg and y/a\.png would both be written as a\.png"):
        masks(tmp_path / "out", sources=("x/a.jpg", "b.png", "y/a.png"), force=True)
    assert names(tmp_path / "out") == before
    assert picture_names([Path("clip.mp4"), Path("clip.mkv"), Path("b.png")]) == {"b.png"}


def test_frames_of_one_name_do_not_replace_each_other(tmp_path: Path) -> None:
    with masks(tmp_path / "out") as sink:
        sink.write(segmented(np.array([[1]], np.uint8), name="a.tif#2"))
        with pytest.raises(UsageError, match=r"a-2\.png exists already.* another frame"):
            sink.write(segmented(np.array([[2]], np.uint8), name="a-2.tif"))
    assert read_mask_png(tmp_path / "out" / "a-2.png").tolist() == [[1]]


# What stands in the directory


def test_empty_directory_is_taken(tmp_path: Path) -> None:
    with masks(tmp_path) as sink:
        write(sink, frame(), no_class())
    assert visible(tmp_path) == ["000000.png"]


def test_directory_that_holds_something_is_refused(tmp_path: Path) -> None:
    (tmp_path / "000007.png").write_bytes(b"old")
    with pytest.raises(OutputExistsError, match="--force"):
        masks(tmp_path)
    assert (tmp_path / "000007.png").read_bytes() == b"old"
    assert names(tmp_path) == ["000007.png"]


def test_force_removes_what_an_earlier_run_wrote_and_nothing_else(tmp_path: Path) -> None:
    with masks(tmp_path / "out") as sink:
        for name in ("a.png", "b.png", "edited.png"):
            sink.write(segmented(no_class(), name=name))
        write(sink, frame(), no_class(), index=7)
    (tmp_path / "out" / "edited.png").write_bytes(b"by hand")
    kept = ["000008.png", "figure.png", "notes.txt"]
    for name in kept:
        (tmp_path / "out" / name).write_bytes(b"not ours")
    with masks(tmp_path / "out", sources=("a.jpg",), force=True) as sink:
        sink.write(segmented(np.array([[1]], np.uint8), name="a.jpg"))
    assert visible(tmp_path / "out") == sorted([*kept, "a.png", "edited.png"])
    assert read_mask_png(tmp_path / "out" / "a.png").tolist() == [[1]]
    assert (tmp_path / "out" / "edited.png").read_bytes() == b"by hand"


def test_force_replaces_no_file_of_others(tmp_path: Path) -> None:
    (tmp_path / "b.png").write_bytes(b"not ours")
    (tmp_path / "000001.png").write_bytes(b"not ours")
    with pytest.raises(UsageError, match=r"b\.png exists already, and no earlier run wrote it"):
        masks(tmp_path, sources=("a.jpg", "b.jpg"), force=True)
    with masks(tmp_path, force=True) as sink:  # of a video
        write(sink, frame(), no_class(), index=0)
        with pytest.raises(UsageError, match=r"000001\.png exists already"):
            write(sink, frame(), no_class(), index=1)
    assert {(tmp_path / name).read_bytes() for name in ("b.png", "000001.png")} == {b"not ours"}


# One picture


@pytest.mark.parametrize(("suffix", "kind", "loss"), [(".png", "PNG", 0), (".JPG", "JPEG", 4)])
def test_picture_is_the_overlay(tmp_path: Path, suffix: str, kind: str, loss: int) -> None:
    mask = no_class()
    mask[:, 48:] = 2
    with OverlayPicture(tmp_path / f"out{suffix}", palette=PALETTE) as sink:
        write(sink, frame(), mask)
        assert not (tmp_path / f"out{suffix}").exists()
    with Image.open(tmp_path / f"out{suffix}") as picture:
        assert picture.format == kind
        difference = np.asarray(picture).astype(int) - overlay(frame(), mask, PALETTE)
    assert np.abs(difference)[:, np.r_[:40, 56:96]].max() <= loss  # JPEG blurs the edge
    assert names(tmp_path) == [f"out{suffix}"]


def test_second_frame_ends_a_picture_and_writes_nothing(tmp_path: Path) -> None:
    (tmp_path / "out.png").write_bytes(b"old")
    with OverlayPicture(tmp_path / "out.png", palette=PALETTE, force=True) as sink:
        write(sink, frame(), no_class())
        with pytest.raises(UsageError, match=r"one picture, but the source has several .*\.mp4"):
            write(sink, frame(), no_class())
    assert (tmp_path / "out.png").read_bytes() == b"old"
    assert names(tmp_path) == ["out.png"]


def test_picture_without_a_frame_is_not_written(tmp_path: Path) -> None:
    OverlayPicture(tmp_path / "out.png", palette=PALETTE).close()
    assert names(tmp_path) == []


def test_second_run_into_a_directory_is_refused(tmp_path: Path) -> None:
    with masks(tmp_path / "out") as sink:
        write(sink, frame(), no_class())
        with pytest.raises(OutputError, match="out is being written by another run"):
            masks(tmp_path / "out", force=True)
        write(sink, frame(), no_class(), index=1)
    assert visible(tmp_path / "out") == ["000000.png", "000001.png"]
