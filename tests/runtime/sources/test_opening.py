"""Sources: order, colours, and what damaged files do."""

from __future__ import annotations

import io
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from PIL import ExifTags, Image, ImageOps

from edgeunet.errors import FrameError, SourceError, UsageError
from edgeunet.runtime.frames import Ignored
from edgeunet.runtime.sources import Frames, SourceInfo
from support.media import read_rgb, write_png, write_video


def gray(value: int) -> npt.NDArray[np.uint8]:
    return np.full((4, 6), value, np.uint8)


# Images


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Five images with brightness 10 to 50 in name order, and files that are no images."""
    names = ["1.png", "10.PNG", "2.png", "a.png", "b.png"]
    for index, name in reversed(list(enumerate(names))):
        write_png(tmp_path / name, gray(10 * (index + 1)))
    (tmp_path / "notes.txt").write_text("no image")
    return tmp_path


def test_directory_is_read_in_natural_order(folder: Path) -> None:
    frames = list(Frames.open(folder).read())
    assert [frame.name for frame in frames] == ["1.png", "2.png", "10.PNG", "a.png", "b.png"]
    assert [frame.index for frame in frames] == [0, 1, 2, 3, 4]
    assert [int(frame.image[0, 0, 0]) for frame in frames] == [10, 30, 20, 40, 50]


def test_what_lies_beside_the_images_is_counted_and_named_once(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (folder / "._1.png").write_bytes(b"of macOS")
    source = Frames.open(folder).read()
    assert len(list(source)) == 5
    assert source.ignored == Ignored(hidden=1, other=1)
    (told,) = caplog.messages
    assert told.endswith("not read: 1 hidden (._1.png), 1 other (notes.txt).")


def test_all_formats_of_a_folder_are_read(tmp_path: Path) -> None:
    for number, suffix in enumerate(("png", "avif", "gif", "JPG", "jp2", "jfif", "pgm", "webp")):
        options = {"format": "jpeg"} if suffix == "jfif" else {}
        Image.fromarray(gray(20 * number)).save(tmp_path / f"{number}.{suffix}", **options)
    frames = list(Frames.open(tmp_path).read())
    assert [round(frame.image.mean() / 20) for frame in frames] == list(range(8))


def test_glob_is_read_in_natural_order(folder: Path) -> None:
    frames = list(Frames.open(str(folder / "[0-9]*.png")).read())
    assert [(frame.index, frame.name) for frame in frames] == [(0, "1.png"), (1, "2.png")]


def test_names_that_are_not_utf_8_are_read(tmp_path: Path) -> None:
    path = Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9.png"))
    write_png(path, gray(7))
    for source in (path, tmp_path, tmp_path / "*.png"):
        (frame,) = Frames.open(source).read()
        assert frame.name == path.name
        assert frame.image[0, 0, 0] == 7


@pytest.mark.parametrize(
    ("source", "kind", "name"),
    [
        ("a.png", "image", "a.png"),
        ("", "folder", None),
        ("*.png", "glob", "*.png"),
        ("set", "dataset", "set"),
        ("clip.mp4", "video", "clip.mp4"),
        ("frames.zip", "archive", "frames.zip"),
        ("rtsp://me:secret@camera/1", "live", "rtsp://***@camera/1"),
        ("http://me:secret@camera/video", "live", "http://***@camera/video"),
        ("https://me:secret@host/film.mp4?x=1", "video", "https://***@host/film.mp4?x=1"),
        ("http://host/stream.m3u8", "video", "http://host/stream.m3u8"),
        ("0", "live", "v4l2:///dev/video0"),
        ("/dev/null", "live", "v4l2:///dev/null"),
        ("/dev/video99", "live", "v4l2:///dev/video99"),
    ],
)
def test_path_or_address_means_one_thing(
    folder: Path, source: str, kind: str, name: str | None
) -> None:
    (folder / "set").mkdir()
    (folder / "set" / "dataset.json").write_text("{}")
    write_video(folder / "clip.mp4", 1)
    (folder / "frames.zip").touch()
    is_path = kind != "live" and "://" not in source
    frames = Frames.open(folder / source if is_path else source)
    assert (frames.kind, frames.name) == (kind, name or folder.name)
    assert "secret" not in frames.name
    assert frames.remote is not is_path


def test_data_set_is_told_from_a_folder_of_images(folder: Path) -> None:
    (folder / "dataset.json").write_text("{}")
    assert len(list(Frames.open(folder).read())) == 5
    for path in folder.glob("*.[pP]*"):
        path.unlink()
    with pytest.raises(SourceError, match=r"is a data set. Pass .*such as .*val/images"):
        Frames.open(folder).read()


def test_frames_are_read_anew_each_time(folder: Path) -> None:
    frames = Frames.open(folder)
    assert [f.name for f in frames.read()] == [f.name for f in frames.read()]


def test_recursive_glob_reads_files_only(tmp_path: Path) -> None:
    (tmp_path / "day").mkdir()
    write_png(tmp_path / "day" / "a.png", gray(1))
    write_png(tmp_path / "b.png", gray(2))
    assert sorted(frame.name for frame in Frames.open(f"{tmp_path}/**").read()) == [
        "a.png",
        "b.png",
    ]


@pytest.mark.parametrize("kind", [str, Path])
def test_single_image(folder: Path, kind: Callable[[Path], str | Path]) -> None:
    (frame,) = Frames.open(kind(folder / "a.png")).read()
    assert (frame.index, frame.name) == (0, "a.png")
    assert (frame.image.shape, frame.channels) == ((4, 6, 1), ("gray",))
    np.testing.assert_array_equal(frame.picture, np.full((4, 6, 3), 40))


def test_name_with_glob_characters_is_a_file_first(tmp_path: Path) -> None:
    write_png(tmp_path / "a[1].png", gray(7))
    write_png(tmp_path / "a1.png", gray(8))
    (frame,) = Frames.open(tmp_path / "a[1].png").read()
    assert frame.name == "a[1].png"


def test_directory_named_like_a_video_is_a_directory(tmp_path: Path) -> None:
    (tmp_path / "clip.mp4").mkdir()
    write_png(tmp_path / "clip.mp4" / "a.png", gray(7))
    assert Frames.open(tmp_path / "clip.mp4").read().info == SourceInfo(1, None)
    assert [frame.name for frame in Frames.open(tmp_path / "clip.mp4").read()] == ["a.png"]


COLOURS = np.array([[[255, 0, 0], [0, 255, 0], [0, 0, 255], [200, 100, 50]]], np.uint8)
LUMA = np.array([[0, 1, 128, 255]], np.uint8)


@pytest.mark.parametrize(
    ("pixels", "wanted"),
    [
        (COLOURS, COLOURS),
        (np.dstack([COLOURS, [[0, 1, 128, 255]]]).astype(np.uint8), COLOURS),
        (COLOURS * np.uint16(257), COLOURS),
        (np.dstack([COLOURS, LUMA]) * np.uint16(257), COLOURS),
        (LUMA, np.repeat(LUMA[..., None], 3, axis=2)),
        (LUMA * np.uint16(257), np.repeat(LUMA[..., None], 3, axis=2)),
    ],
    ids=["rgb", "rgba", "rgb16", "rgba16", "gray", "gray16"],
)
def test_image_becomes_8_bit_rgb(
    tmp_path: Path, pixels: npt.NDArray[np.generic], wanted: npt.NDArray[np.uint8]
) -> None:
    frame = read_rgb(write_png(tmp_path / "a.png", pixels))
    assert frame.dtype == np.uint8
    assert frame.flags.c_contiguous
    np.testing.assert_array_equal(frame, wanted)


def write_jpeg(path: Path, image: Image.Image, **options: object) -> Path:
    image.save(path, quality=95, **options)
    return path


def noise(size: tuple[int, int] = (40, 56)) -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (*size, 3), np.uint8))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_image_comes_upright(tmp_path: Path, orientation: int) -> None:
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    quarters = np.full((32, 48, 3), 40, np.uint8)
    quarters[:16, :24], quarters[:16, 24:], quarters[16:, :24] = 220, 160, 100
    path = write_jpeg(tmp_path / "a.jpg", Image.fromarray(quarters), exif=exif)
    with Image.open(path) as image:
        wanted = np.asarray(ImageOps.exif_transpose(image))
    frame = read_rgb(path)
    assert frame.shape == wanted.shape
    assert np.abs(frame.astype(int) - wanted).max() <= 3  # two decoders


@pytest.mark.parametrize("progressive", [False, True])
def test_jpeg_that_was_cut_off_is_an_error(tmp_path: Path, progressive: bool) -> None:
    preview = io.BytesIO()
    noise((16, 16)).save(preview, "jpeg")  # whole, it must not pass for the end of the image
    path = write_jpeg(
        tmp_path / "a.jpg", noise(), progressive=progressive, comment=preview.getvalue()
    )
    content = path.read_bytes()
    assert read_rgb(path).shape == (40, 56, 3)
    for length in (len(content) // 2, len(content) - 2, len(content) - 1):
        path.write_bytes(content[:length])
        with pytest.raises(SourceError, match=r"a\.jpg is truncated"):
            read_rgb(path)


def test_jpeg_with_something_behind_it_is_whole(tmp_path: Path) -> None:
    path = write_jpeg(tmp_path / "a.jpg", noise(), restart_marker_blocks=1)
    path.write_bytes(path.read_bytes() + b"\xff\xda a film \xff")
    assert read_rgb(path).shape == (40, 56, 3)


def test_image_of_floats_says_so(tmp_path: Path) -> None:
    Image.fromarray(np.zeros((4, 6), np.float32)).save(tmp_path / "a.tif")
    with pytest.raises(FrameError, match=r"a\.tif is float32; the net takes uint8"):
        read_rgb(tmp_path / "a.tif")


def test_empty_directory_names_the_suffixes(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("no image")
    with pytest.raises(SourceError, match=r"holds no image \(.*\.png.*\)"):
        Frames.open(tmp_path).read()


@pytest.mark.parametrize("name", ["absent", "absent.png", "absent.mp4", "*.png", "*.mp4"])
def test_missing_path_is_named(tmp_path: Path, name: str) -> None:
    with pytest.raises(SourceError, match=rf"{re.escape(name)} does not exist"):
        list(Frames.open(str(tmp_path / name)).read())


@pytest.mark.parametrize("name", ["csi:0", "usb0"])
def test_name_of_a_camera_in_another_form_is_told_the_right_one(name: str) -> None:
    with pytest.raises(SourceError, match=r"v4l2:///dev/video0 or csi://0"):
        Frames.open(name).read()


def test_number_is_a_camera_unless_it_is_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(SourceError, match=r"v4l2:///dev/video99 \(V4L2\): no such device"):
        Frames.open("99").read()
    monkeypatch.chdir(tmp_path)
    (tmp_path / "99").mkdir()
    write_png(tmp_path / "99" / "a.png", gray(7))
    assert Frames.open("99").kind == "folder"


def test_pipe_is_no_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "clip.mp4")
    with pytest.raises(SourceError, match="is neither a file nor a folder"):
        Frames.open(tmp_path / "clip.mp4")


def test_image_beyond_opencvs_limit_says_how_to_lift_it(tmp_path: Path) -> None:
    path = write_png(tmp_path / "large.png", gray(7))
    code = (
        "import pathlib, sys; from edgeunet.data.images import read_picture; "
        "read_picture(pathlib.Path(sys.argv[1]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=False,
        env={**os.environ, "OPENCV_IO_MAX_IMAGE_PIXELS": "1"},
    )  # fmt: skip
    assert re.search(r"SourceError: .*large\.png .*OPENCV_IO_MAX_IMAGE_PIXELS allows", done.stderr)


def test_file_of_another_kind_names_the_kinds(tmp_path: Path) -> None:
    path = tmp_path / "notes.md"
    path.write_text("no image")
    with pytest.raises(
        SourceError, match=r"neither an image \(.*\.png.*\), a video \(.*\.mp4.*\.mcap\)\.$"
    ):
        Frames.open(path).read()


def test_what_workers_alone_read_names_them(tmp_path: Path) -> None:
    for name in ("a.parquet", "list.txt"):
        (tmp_path / name).touch()
    for source in (
        *(tmp_path / "a.parquet", tmp_path / "list.txt", tmp_path, f"{tmp_path}/*.parquet"),
        *("s3://bucket/a.tar", "https://me:secret@host/a.tar?x=1", "https://host/a.parquet"),
    ):
        with pytest.raises((SourceError, UsageError), match="`edgeunet run --workers N`") as caught:
            Frames.open(source)
        assert "secret" not in str(caught.value)


# Several


def names(source: object) -> list[str]:
    return [frame.name for frame in Frames.open(source).read()]  # type: ignore[arg-type]


def test_several_images_come_in_natural_order_if_a_shell_sorted_them(folder: Path) -> None:
    files = sorted(path for path in folder.iterdir() if path.suffix != ".txt")
    assert names(files) == ["1.png", "2.png", "10.PNG", "a.png", "b.png"]
    mixed = [folder / "b.png", folder / "1.png", folder / "10.PNG"]
    assert names(mixed) == ["b.png", "1.png", "10.PNG"], "an order that somebody chose"
    assert Frames.open(mixed).files == tuple(mixed)


def test_folders_and_videos_follow_each_other(folder: Path, tmp_path: Path) -> None:
    clip = write_video(tmp_path / "clip.mp4", 2)
    (tmp_path / "day").mkdir()
    write_png(tmp_path / "day" / "x.png", gray(1))
    assert names([clip, tmp_path / "day", folder / "a.png"]) == [
        "clip.mp4#1", "clip.mp4#2", "x.png", "a.png"
    ]  # fmt: skip
    assert names(f"{tmp_path}/*.mp4") == ["clip.mp4#1", "clip.mp4#2"]


def test_glob_of_videos_among_others_is_no_source_in_a_source(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for name in ("a.mp4", "b.mp4"):
        write_video(tmp_path / name, 1)
    (tmp_path / "notes.txt").write_text("none")
    (tmp_path / "b.mp4").write_bytes(b"none")
    write_png(tmp_path / "x.png", gray(1))
    (tmp_path / "x.png").rename(tmp_path / "day.png")
    source = Frames.open([f"{tmp_path}/[abn]*", tmp_path / "day.png"]).read()
    assert [next(source).name, next(source).name] == ["a.mp4#1", "day.png"]
    with pytest.raises(
        SourceError, match=r"^1 of 3 sources failed; .* The first: \S+b\.mp4 cannot"
    ):
        next(source)
    assert source.ignored == Ignored(other=1)
    assert sum("notes.txt" in message for message in caplog.messages) == 1


def test_one_in_a_list_is_that_one(folder: Path) -> None:
    assert Frames.open([folder]) == Frames.open(folder)


@pytest.mark.parametrize("camera", ["0", "rtsp://me:secret@camera/1"])
def test_camera_beside_others_is_refused(folder: Path, camera: str) -> None:
    with pytest.raises(UsageError, match="has no end, so nothing can follow it") as caught:
        Frames.open([folder, camera])
    assert "secret" not in str(caught.value)
    with pytest.raises(UsageError, match="got none"):
        Frames.open([])


# Videos


def test_info_counts_images(folder: Path) -> None:
    assert Frames.open(folder).read().info == SourceInfo(5, None)
    assert Frames.open(folder / "a.png").read().info == SourceInfo(1, None)


def test_opening_refuses_what_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "clip.mp4").write_text("no video")
    for name, words in {
        "clip.mp4": "cannot be read as a video",
        "absent": "does not exist",
    }.items():
        with pytest.raises(SourceError, match=words):
            Frames.open(tmp_path / name).read()
