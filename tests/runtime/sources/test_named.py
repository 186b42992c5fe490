"""Names of sources side by side: predictable, unique, without secrets."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edgeunet.errors import SourceError, UsageError
from edgeunet.runtime.sources import Frames
from edgeunet.runtime.sources.named import inputs_of, name_of, named, one_by_one, split_name
from support.media import write_png

IMAGE = np.zeros((4, 6, 3), np.uint8)


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with films, archives and images, which is the current one."""
    for name in ("a.mp4", "b.mkv", "frames.tar.gz", "day/c.mp4", "day/a.mp4"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"none")
    for name in ("site/1.png", "2.png", "10.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        write_png(tmp_path / name, IMAGE)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("source", "name"),
    [
        ("a.mp4", "a"),
        ("day/c.mp4", "c"),
        ("frames.tar.gz", "frames"),
        ("site", "site"),
        ("2.png", "images"),
        ("0", "video0"),
        ("v4l2:///dev/video2?size=640x480", "video2"),
        ("csi://1?rate=30", "csi1"),
        ("gst:videotestsrc password=hidden ! appsink", "gst"),
        ("rtsp://admin:s3cret@10.0.0.5:554/live/main?password=hidden", "10.0.0.5-554-live-main"),
        ("http://cam.lan/mjpg/", "cam.lan-mjpg"),
        ("https://host/films/clip.mp4?token=hidden", "clip"),
        ("*.mp4", "all"),
    ],
)
@pytest.mark.usefixtures("place")
def test_name_is_that_of_the_file_or_device(source: str, name: str) -> None:
    frames = Frames.open(source)
    assert name_of(frames) == name


@pytest.mark.usefixtures("place")
def test_sources_keep_their_order_and_images_are_one() -> None:
    given = ["10.png", "b.mkv", "door=rtsp://10.0.0.5/1", "2.png", "day/*.mp4", "more=site"]
    found = named(given)
    assert list(found) == ["images", "b", "door", "a", "c", "more"]
    assert [path.name for path in found["images"].files] == ["2.png", "10.png"]
    assert found["door"].kind == "live"


@pytest.mark.parametrize(
    ("sources", "words"),
    [
        ([], "expected a source, got none|^$"),
        (["a.mp4", "day/a.mp4"], r"a\.mp4 and a\.mp4 are both called a\. .* NAME=SOURCE"),
        (["a.mp4", "a.mp4"], r"a\.mp4 is given twice"),
        (["x=a.mp4", "y=day/../a.mp4"], r"a\.mp4 is given twice"),
        (["rtsp://u:s3cret@h/1", "rtsp://u:s3cret@h/1"], r"rtsp://\*\*\*@h/1 is given twice"),
        (["0", "/dev/video0"], "given twice"),
        (["images=site", "2.png"], "both called images"),
    ],
)
@pytest.mark.usefixtures("place")
def test_what_cannot_stand_side_by_side_is_refused(sources: list[str], words: str) -> None:
    if not sources:
        assert named(sources) == {}
        return
    with pytest.raises(UsageError, match=words) as told:
        named(sources)
    assert "s3cret" not in str(told.value)


@pytest.mark.usefixtures("place")
def test_file_whose_name_looks_like_one_is_a_file() -> None:
    Path("x=a.mp4").write_bytes(b"none")
    assert split_name("x=a.mp4") == ("", "x=a.mp4")
    assert split_name("y=a.mp4") == ("y", "a.mp4")
    assert split_name("rtsp://h/1?user=a") == ("", "rtsp://h/1?user=a")
    with pytest.raises(SourceError, match=r"z\.mp4 does not exist"):
        named(["a.mp4", "y=z.mp4"])


@pytest.mark.parametrize("name", ["", "my door", "../x", "a/b", "-x"])
@pytest.mark.parametrize("where", ["a.mp4", "rtsp://10.0.0.5/1?x=y"])
@pytest.mark.usefixtures("place")
def test_what_is_no_name_is_refused(name: str, where: str) -> None:
    with pytest.raises(UsageError, match=r" is no name of a source; expected letters, digits"):
        named([f"{name}={where}", "b.mkv"])


@pytest.mark.parametrize("beside", ["rtsp://10.0.0.5/1", "door=b.mkv"])
@pytest.mark.usefixtures("place")
def test_camera_in_a_row_is_refused(beside: str) -> None:
    with pytest.raises(UsageError, match=r"read beside the other .* out\.mp4 .*-o DIR/\{source\}"):
        one_by_one(["a.mp4", beside], "out.mp4")
    assert len(one_by_one(["a.mp4", "b.mkv"], "out.mp4").parts) == 2


def test_inputs_of_a_mapping_are_refused_if_they_are_one_source() -> None:
    frames = [IMAGE]
    for sources in ({"a": frames, "b": frames}, {"a": "rtsp://h/1", "b": "rtsp://h/1"}):
        with pytest.raises(UsageError, match="a and b are the same source"):
            inputs_of(sources)
    for names in ({}, {"": frames, "b": [IMAGE]}, {1: frames}):
        with pytest.raises(UsageError, match=r"got none|is no name of a source"):
            inputs_of(names)
    assert list(inputs_of({"a": frames, "b": [IMAGE]})) == ["a", "b"]
