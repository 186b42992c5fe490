"""Bags of ROS as sources."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from edgeunet.errors import FrameError, MissingDependencyError, SourceError, UsageError
from edgeunet.runtime.sources import Frames
from edgeunet.runtime.sources.named import named
from edgeunet.runtime.sources.ros import Bag
from support.bags import film, rgb, write_bag

NAMES = ("day.bag", "day.mcap", "day.db3", "day")


def images(count: int) -> list[npt.NDArray[np.uint8]]:
    generator = np.random.default_rng(0)
    return list(generator.integers(0, 256, (count, 5, 7, 3), np.uint8))


@pytest.mark.parametrize("name", NAMES)
def test_frames_of_every_kind_of_bag(tmp_path: Path, name: str) -> None:
    shown = images(3)
    path = write_bag(tmp_path / name, film(shown))
    frames = Frames.open(path)
    assert frames.kind == "bag"
    with frames.read() as source:
        assert source.info.frames == 3
        read = list(source)
    assert [frame.index for frame in read] == [0, 1, 2]
    assert np.allclose([frame.time for frame in read if frame.time is not None], [0, 0.1, 0.2])
    for frame, image in zip(read, shown, strict=True):
        assert np.array_equal(frame.image, image)
        assert frame.channels == ("red", "green", "blue")
        assert frame.stamp is not None
        assert (frame.stamp.topic, frame.stamp.frame_id) == ("/image", "lens")
        assert frame.stamp.logged - frame.stamp.time == 7


def test_topic_is_the_only_one_or_named(tmp_path: Path) -> None:
    first, second = images(2)
    messages = [*film([first], topic="/left"), *film([second], topic="/right/image_raw")]
    path = write_bag(tmp_path / "two.mcap", messages)
    (frame,) = Frames.open(f"bag:{path}?topic=/right/image_raw").read()
    assert np.array_equal(frame.image, second)
    said = r"several topics of images: /left \(Image, 1\), /right/image_raw \(Image, 1\)\. Name "
    with pytest.raises(SourceError, match=said):
        Frames.open(path).read()
    with pytest.raises(SourceError, match=r"'/lefd'\. Did you mean '/left'\? It has: /left"):
        Frames.open(f"bag:{path}?topic=/lefd").read()
    topics = named([f"bag:{path}?topic=/left", f"bag:{path}?topic=/right/image_raw"])
    assert list(topics) == ["two-left", "two-right-image_raw"]
    with pytest.raises(UsageError, match="given twice"):
        named([f"bag:{path}?topic=/left", f"l=bag:{tmp_path}/./two.mcap?topic=/left"])


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("bag:", "names no bag"),
        ("bag:no.bag", "no.bag does not exist"),
        ("bag:a.png", "a.png is no bag; expected a file .bag, .db3, .mcap, or a folder"),
        ("bag:a.png?", "unknown option ''; expected a topic"),
        ("bag:a.png?topic=", "unknown option 'topic='"),
        ("bag:a.png?to=/x", "unknown option 'to=/x'; expected a topic, such as bag:FILE?topic="),
    ],
)
def test_address_that_names_no_bag(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, address: str, message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("a.png").touch()
    with pytest.raises((UsageError, SourceError)) as refusal:
        Frames.open(address)
    assert message in str(refusal.value)


@pytest.mark.parametrize("name", NAMES)
def test_damaged_frames_are_named_and_the_others_are_read(
    tmp_path: Path, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    good = film(images(6))
    bad = list(good)
    bad[1] = replace(good[1], fields=rgb(images(1)[0], encoding="bayer_rggb8"))
    bad[2] = replace(good[2], raw=b"\0\1\0\0cut")
    bad[4] = replace(good[4], fields=rgb(images(1)[0], height=6))
    source = Frames.open(write_bag(tmp_path / name, bad)).read()
    read = []
    with pytest.raises(SourceError, match="3 of 6 frames cannot be read; the others are done"):
        read.extend(source)
    assert [frame.index for frame in read] == [0, 3, 5]
    assert len(caplog.messages) == source.skipped == len(source.damaged) == 3
    assert "frame 1 of /image is 'bayer_rggb8'" in source.damaged[0]
    assert "frame 2 of /image is no message of its type" in source.damaged[1]
    assert "frame 4 of /image has 105 bytes; expected 126" in source.damaged[2]
    assert len(list(Frames.open(tmp_path / name).read(skip_damaged=True))) == 3
    source.reject(FrameError("frame 5 is odd"))
    assert source.damaged[-1] == "frame 5 is odd"


def test_bag_of_damaged_frames_alone_is_an_error(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    damaged = [replace(each, raw=b"") for each in film(images(30))]
    source = Frames.open(write_bag(tmp_path / "bad.mcap", damaged)).read(skip_damaged=True)
    with pytest.raises(SourceError, match=r"none of 30 frames can be read\. The first: "):
        list(source)
    assert len(caplog.messages) == 10
    source = Frames.open(write_bag(tmp_path / "none.db3", [])).read
    with pytest.raises(SourceError, match=r"has no topic of images .* it has: none"):
        source()


@pytest.mark.parametrize("name", ["day.bag", "day.mcap", "day.db3"])
@pytest.mark.parametrize("left", [0.0, 0.3, 0.97])
def test_truncated_bag_is_an_error(tmp_path: Path, name: str, left: float) -> None:
    whole = write_bag(tmp_path / name, film(images(400))).read_bytes()
    (tmp_path / name).write_bytes(whole[: int(left * len(whole))])
    with pytest.raises(SourceError, match=f"{name} "):
        list(Frames.open(tmp_path / name).read(skip_damaged=True))


def test_damage_within_a_bag_is_an_error_behind_the_frames_before(tmp_path: Path) -> None:
    path = write_bag(tmp_path / "day.mcap", film(images(20000)))
    content = bytearray(path.read_bytes())
    middle = len(content) // 2
    content[middle : middle + 400] = b"\xff" * 400
    path.write_bytes(content)
    read = []
    with pytest.raises(SourceError, match=r"cannot be read further: .*mcap recover|cannot be read"):
        read.extend(Frames.open(path).read())
    assert 0 < len(read) < 20000


@pytest.mark.parametrize("name", ["a_day", "z_day"])  # beside metadata.yaml in the alphabet
def test_damaged_metadata_of_a_folder_is_an_error(tmp_path: Path, name: str) -> None:
    path = write_bag(tmp_path / name, film(images(1)))
    (path / "metadata.yaml").write_text("a: [")
    with pytest.raises(SourceError, match=f"{name} cannot be read as a bag: .*`mcap recover` may"):
        Frames.open(path).read()


def test_definitions_of_a_bag_are_not_read(tmp_path: Path) -> None:
    """A definition could have any fields and constants; that of ROS is used."""
    path = write_bag(tmp_path / "day.mcap", film(images(2)))
    content = path.read_bytes()
    real, fake = b"std_msgs/Header header", b"__import__('os')[x] aa"
    assert content.count(real) >= 1
    path.write_bytes(content.replace(real, fake))
    assert len(list(Frames.open(path).read())) == 2


def test_header_without_a_time_has_that_of_the_bag(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    messages = [replace(each, time=0) for each in film(images(3))]
    read = list(Frames.open(write_bag(tmp_path / "day.bag", messages)).read())
    assert [round(frame.time, 3) for frame in read if frame.time is not None] == [0, 0.1, 0.2]
    assert read[0].stamp is not None
    assert read[0].stamp.time == 0
    (said,) = caplog.messages
    assert "frame 0 of /image has no time in its header; the bag's is taken" in said


def test_missing_rosbags_is_named_with_what_installs_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_bag(tmp_path / "day.bag", film(images(1)))
    monkeypatch.setitem(sys.modules, "rosbags.rosbag1", None)
    with pytest.raises(MissingDependencyError, match=r"pip install '\.\[ros\]'"):
        Bag(path)


def test_glob_of_bags(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write_bag(tmp_path / f"{name}.mcap", film(images(2)))
    frames = Frames.open(str(tmp_path / "*.mcap"))
    assert [each.name for each in frames.read()] == [
        "a.mcap#1", "a.mcap#2", "b.mcap#1", "b.mcap#2",
    ]  # fmt: skip
