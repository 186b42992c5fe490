"""Masks as bags of ROS 2."""

from __future__ import annotations

import errno
import sys
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from rosbags.highlevel import AnyReader

from edgeunet.errors import MissingDependencyError, OutputError, OutputExistsError
from edgeunet.runtime.frames import Segmented, SourceFrame, Stamp
from edgeunet.runtime.sinks import open_sink
from edgeunet.runtime.sinks.ros import MaskBag
from edgeunet.runtime.sources import Frames
from support.bags import SECOND, film, write_bag
from support.commands import fails, names, succeeds, visible

CLASSES = ("background", "cell", "dividing")


def read(path: Path) -> list[tuple[str, int, Any]]:
    """Topic, time of recording and message, by rosbags and the definitions in the file itself."""
    with AnyReader([path]) as reader:
        return [
            (connection.topic, logged, reader.deserialize(raw, connection.msgtype))
            for connection, logged, raw in reader.messages()
        ]


def segmented(index: int = 0, *, time: float | None = None, stamp: Any = None) -> Segmented:
    mask = np.full((5, 7), index % 3, np.uint8)
    return Segmented(SourceFrame(index, "", np.zeros((5, 7, 3), np.uint8), time, stamp=stamp), mask)


def test_bag_through_the_net_is_a_bag_of_its_masks(
    fp32_bundle: Path, images: Path, tmp_path: Path
) -> None:
    shown = [np.asarray(Image.open(path)) for path in sorted(images.iterdir())]
    for name in ("one.bag", "two.mcap"):
        write_bag(tmp_path / name, film(shown, topic=f"/{name[:3]}/image"))
    succeeds(
        "run", fp32_bundle, tmp_path / "one.bag", f"bag:{tmp_path}/two.mcap?topic=/two/image",
        "-o", f"{tmp_path}/out/{{source}}.mcap",
    )  # fmt: skip
    assert names(tmp_path / "out") == ["one.mcap", "two-two-image.mcap"]
    succeeds("run", fp32_bundle, images, "-o", tmp_path / "expected")
    expected = [
        np.asarray(Image.open(path)) for path in sorted((tmp_path / "expected").glob("*.png"))
    ]
    messages = read(tmp_path / "out" / "one.mcap")
    assert len(messages) == len(expected) == 5
    for index, (topic, logged, message) in enumerate(messages):
        assert topic == "/one/image/mask"
        assert (message.encoding, message.header.frame_id) == ("mono8", "lens")
        time = message.header.stamp.sec * SECOND + message.header.stamp.nanosec
        assert time == (17_000_000_000 + index) * SECOND // 10
        assert logged == time + 7
        assert np.array_equal(message.data.reshape(50, 70), expected[index])
    again = list(Frames.open(tmp_path / "out" / "two-two-image.mcap").read())
    assert [frame.stamp.topic for frame in again if frame.stamp] == ["/two/image/mask"] * 5
    assert all(np.array_equal(*pair) for pair in
               zip([frame.image[..., 0] for frame in again], expected, strict=True))  # fmt: skip
    said = fails(2, "run", fp32_bundle, tmp_path / "one.bag", "-o", tmp_path / "out" / "one.mcap")
    assert "exists already" in said
    said = fails(2, "run", fp32_bundle, tmp_path / "one.bag", "-o", tmp_path / "one.mcap",
                 "--overlay")  # fmt: skip
    assert "--overlay is for a directory" in said


def test_frames_of_no_bag_have_the_time_of_their_source(tmp_path: Path) -> None:
    path = tmp_path / "masks.mcap"
    with MaskBag(path, rate=Fraction(4), classes=CLASSES) as sink:
        for index, time in enumerate([None, None, 7.5]):
            sink.write(segmented(index, time=time))
        assert not path.exists()
    assert [(topic, logged) for topic, logged, _ in read(path)] == [
        ("/image/mask", 0), ("/image/mask", SECOND // 4), ("/image/mask", 15 * SECOND // 2),
    ]  # fmt: skip
    assert visible(tmp_path) == ["masks.mcap"]
    with pytest.raises(OutputExistsError):
        MaskBag(path, rate=Fraction(4), classes=CLASSES)


def test_sizes_and_topics_may_change(tmp_path: Path) -> None:
    path = str(tmp_path / "masks.mcap")
    with open_sink(path, rate=None, classes=CLASSES, palette=[(0, 0, 0)] * 3) as sink:
        for index, topic in enumerate(["/a", "/b/compressed", "/a"]):
            sink.write(segmented(index, stamp=Stamp(topic, "lens", index, 10 + index)))
        frame = SourceFrame(3, "", np.zeros((2, 3, 3), np.uint8), stamp=Stamp("/a", "", 3, 13))
        sink.write(Segmented(frame, np.zeros((2, 3), np.uint8)))
    messages = read(Path(path))
    assert [topic for topic, _, _ in messages] == ["/a/mask", "/b/mask", "/a/mask", "/a/mask"]
    assert [(each.height, each.width) for _, _, each in messages] == [(5, 7)] * 3 + [(2, 3)]


def test_nothing_is_left_of_an_empty_or_failed_bag(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "masks.mcap"
    path.write_bytes(b"an earlier one")
    sink = MaskBag(path, rate=Fraction(1), classes=CLASSES, force=True)
    with pytest.raises(OutputError, match="another run"):
        MaskBag(path, rate=Fraction(1), classes=CLASSES, force=True)
    sink.close()
    sink = MaskBag(path, rate=Fraction(1), classes=CLASSES, force=True)
    sink.write(segmented())

    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(sink._writer, "write", full)
    with pytest.raises(OSError, match="No space"), sink:
        sink.write(segmented())
    assert path.read_bytes() == b"an earlier one"
    assert not [name for name in names(tmp_path) if name.endswith(".tmp")]


def test_missing_rosbags_is_named_with_what_installs_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "rosbags.rosbag2", None)
    with pytest.raises(MissingDependencyError, match=r"pip install '\.\[ros\]'"):
        MaskBag(tmp_path / "masks.mcap", rate=Fraction(1), classes=CLASSES)
    assert names(tmp_path) == []
