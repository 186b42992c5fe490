"""The sink that an output names, and the outputs that are refused."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest

from edgeunet.errors import OutputError, OutputExistsError, UsageError
from edgeunet.runtime.sinks import (
    CocoFile,
    JsonLines,
    MaskDirectory,
    NullSink,
    OverlayDirectory,
    OverlayPicture,
    OverlayVideo,
    PolygonLines,
    RegionTable,
    check_output,
    open_sink,
)
from edgeunet.runtime.sources import Frames
from support.masks import CLASSES, PALETTE, frame, names, no_class, write
from support.media import write_video

RATE = Fraction(25)


@pytest.mark.parametrize(
    ("output", "kind"),
    [
        ("-", NullSink),
        ("out.mp4", OverlayVideo),
        ("out.MP4", OverlayVideo),
        ("out.mov", OverlayVideo),
        ("out.mkv", OverlayVideo),
        ("out.webm", OverlayVideo),
        ("out.gif", OverlayVideo),
        ("out.png", OverlayPicture),
        ("out.JPG", OverlayPicture),
        ("out.jpeg", OverlayPicture),
        ("out.jsonl", JsonLines),
        ("out.json", CocoFile),
        ("out.CSV", RegionTable),
        ("10:30.mp4", OverlayVideo),
        ("cam:1.jsonl", JsonLines),
        ("out", MaskDirectory),
        ("out/", MaskDirectory),
        ("v1.5/", MaskDirectory),
        ("./cam:1", MaskDirectory),
    ],
)
def test_output_chooses_the_sink(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, output: str, kind: type
) -> None:
    monkeypatch.chdir(tmp_path)
    with open_sink(output, rate=RATE, classes=CLASSES, palette=PALETTE) as sink:
        assert type(sink) is kind
        write(sink, frame(), no_class())
    assert names(tmp_path) == ([] if output == "-" else [Path(output).name])


def test_directory_with_a_dot_in_its_name_is_taken_if_it_exists(tmp_path: Path) -> None:
    (tmp_path / "v1.5").mkdir()
    with open_sink(str(tmp_path / "v1.5"), rate=RATE, classes=CLASSES, palette=PALETTE) as sink:
        assert type(sink) is MaskDirectory


def test_directory_gets_overlays_if_they_are_wanted(tmp_path: Path) -> None:
    with open_sink(
        str(tmp_path / "out"), rate=RATE, classes=CLASSES, palette=PALETTE, overlay=True
    ) as sink:
        assert type(sink) is OverlayDirectory


@pytest.mark.parametrize("output", ["out.mp4", "out.png", "out.jsonl", "-", "pipe:masks", print])
def test_overlay_is_for_directories(output: str) -> None:
    with pytest.raises(UsageError, match="--overlay is for a directory"):
        check_output(output, overlay=True)


@pytest.mark.parametrize(
    ("output", "form", "kind"),
    [
        ("out.json", "coco", CocoFile),
        ("out.csv", "csv", RegionTable),
        ("out.jsonl", "polygons", PolygonLines),
        ("out", "coco", CocoFile),
        ("out", "polygons", PolygonLines),
    ],
)
def test_format_chooses_what_is_written(tmp_path: Path, output: str, form: Any, kind: type) -> None:
    with open_sink(
        str(tmp_path / output), rate=RATE, classes=CLASSES, palette=PALETTE, format=form
    ) as sink:
        assert type(sink) is kind
        write(sink, frame(), no_class())


@pytest.mark.parametrize(
    ("output", "form", "told"),
    [
        (
            "out.json",
            "csv",
            r"csv is written to NAME\.csv or a directory, and the output is out.js",
        ),
        ("out.csv", "polygons", r"polygons is written to NAME\.jsonl"),
        ("out.mp4", "coco", r"Pass -o NAME\.json\."),
        ("-", "coco", "the output is -"),
        ("pipe:masks", "csv", "the output is pipe:masks"),
        (print, "csv", "the output is a function"),
        ("out", "yolo", "format is 'yolo'; expected one of coco, csv, polygons"),
    ],
)
def test_format_that_does_not_fit_the_output_is_refused(output: Any, form: Any, told: str) -> None:
    with pytest.raises(UsageError, match=told):
        check_output(output, format=form)


def test_overlay_and_a_format_are_two_outputs() -> None:
    with pytest.raises(UsageError, match="Leave one out"):
        check_output("out", overlay=True, format="csv")


@pytest.mark.parametrize("output", ["out.avi", "out.xyz", "run/out.tiff", ""])
def test_other_outputs_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, output: str
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match=r"is no output; expected NAME\.mp4.*directory.*-"):
        open_sink(output, rate=RATE, classes=CLASSES, palette=PALETTE)
    assert names(tmp_path) == []


@pytest.mark.parametrize(
    "output",
    [
        "rtsp://user:secret@camera/1",
        "rtmp://camera/out.mp4",
        "s3://bucket/masks.jsonl",
        "http:/camera",
        "file:///tmp/out",
        "v4l2:///dev/video0",
        "pipe:",
        "pipe:video",
        "udp:5000",
    ],
)
def test_address_that_is_no_output_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, output: str
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match=r"looks like an address.*NAME\.mp4") as raised:
        open_sink(output, rate=RATE, classes=CLASSES, palette=PALETTE)
    assert "secret" not in str(raised.value)
    assert names(tmp_path) == []


def test_several_frames_do_not_go_into_one_picture(tmp_path: Path) -> None:
    output = str(tmp_path / "out.png")
    for arguments in ({"several": True}, {"sources": [Path("a.png"), Path("b.png")]}):
        with pytest.raises(UsageError, match=r"one picture, but .*out\.mp4, .*/out --overlay"):
            check_output(output, **arguments)  # type: ignore[arg-type]
    check_output(output, sources=[Path("a.png")])


@pytest.mark.parametrize("name", ["out.mp4", "out.jsonl", "out.png", "out.gif", "out"])
def test_force_reaches_the_sink(tmp_path: Path, name: str) -> None:
    def run(force: bool) -> None:
        with open_sink(
            str(tmp_path / name), rate=RATE, classes=CLASSES, palette=PALETTE, force=force
        ) as sink:
            write(sink, frame(), no_class())

    run(False)
    with pytest.raises(OutputExistsError):
        run(False)
    with pytest.raises(OutputExistsError):
        check_output(str(tmp_path / name))
    run(True)


@pytest.mark.parametrize("name", ["out.mp4", "out.jsonl", "out.png", "out.gif", "out"])
def test_second_writer_of_an_output_is_refused(tmp_path: Path, name: str) -> None:
    def opened() -> object:
        return open_sink(
            str(tmp_path / name), rate=RATE, classes=CLASSES, palette=PALETTE, force=True
        )

    with opened() as sink:  # type: ignore[attr-defined]
        write(sink, frame(), no_class())
        with pytest.raises(OutputError, match="is being written by another run"):
            opened()
    assert names(tmp_path) == [name], "the first writer is not disturbed, and no lock file stays"
    with opened() as sink:  # type: ignore[attr-defined]
        write(sink, frame(), no_class())


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
    for output in ("masks", "images/masks", "out.mp4", "out.png", "-"):
        open_sink(output, rate=RATE, classes=CLASSES, palette=PALETTE, sources=files).close()
    assert (tmp_path / "images" / "a.png").read_bytes() == b"kept"
