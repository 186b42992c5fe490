"""Images in bags of ROS 1 and ROS 2, read by rosbags."""

from __future__ import annotations

import logging
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from edgeunet.errors import (
    FrameError,
    MissingDependencyError,
    SourceError,
    UsageError,
    did_you_mean,
    first_line,
    printable,
)

from ..frames import SourceFrame, SourceInfo
from .base import Source
from .ros_messages import COMPRESSED, IMAGE, picture_of, stamp_of

if TYPE_CHECKING:
    from rosbags.interfaces import Connection

_log = logging.getLogger(__name__)

BAG_SUFFIXES = (".bag", ".db3", ".mcap")
"""Suffixes, in lower case, of files that are read as bags."""

_MENDERS = {".bag": "rosbag reindex", ".db3": "ros2 bag reindex", ".mcap": "mcap recover"}
_METADATA = "metadata.yaml"
_MOST_LOGGED = 10  # damaged frames of a bag, which may all be


def is_bag(path: Path) -> bool:
    """Whether a path is a bag by its name: a file of `BAG_SUFFIXES`, or a folder of rosbag2."""
    if not path.is_dir():
        return path.suffix.lower() in BAG_SUFFIXES
    return (path / _METADATA).is_file() and len(bag_files(path)) > 1


def bag_files(path: Path) -> tuple[Path, ...]:
    """The files of a bag."""
    if not path.is_dir():
        return (path,)
    stored = [each for each in path.iterdir() if _storage(each) or each.name == _METADATA]
    return tuple(sorted(stored))


def _storage(path: Path) -> str:
    """The suffix of `BAG_SUFFIXES` in a name, which another one of a compression may follow."""
    return next((each for each in map(str.lower, path.suffixes) if each in BAG_SUFFIXES), "")


def split_bag(address: str) -> tuple[Path, str]:
    """Path and topic of `bag:PATH?topic=/image`; the topic is empty if none is named.

    Raises:
        UsageError: no path, or another option than a topic.

    Example:
        >>> from edgeunet.runtime.sources.ros import split_bag
        >>> split_bag("bag:day.mcap?topic=/camera/image_raw")[1]
        '/camera/image_raw'
    """
    path, mark, query = address.partition(":")[2].rpartition("?")
    if not mark:
        path, query = query, ""
    key, equals, topic = query.partition("=")
    if mark and (key != "topic" or not equals or not topic):
        raise UsageError(
            f"{printable(address)}: unknown option {printable(query)!r}; expected a topic, such as "
            "bag:FILE?topic=/image."
        )
    if not path:
        raise UsageError(f"{printable(address)} names no bag; expected bag:FILE?topic=/image.")
    return Path(path), unquote(topic)


class Bag(Source):
    """The images of one topic of a bag, in the order in which they were recorded.

    Their times are those of their headers; of a header without a time, the bag's, which a warning
    says. A message that cannot be read is left out as an image would be, see `Images`.

    Definitions of messages that a bag brings are never read: those of ROS are built in.

    Args:
        path: a file of `BAG_SUFFIXES`, or a folder of rosbag2.
        topic: of type `sensor_msgs/Image` or `CompressedImage`; empty for the only one.
        skip_damaged: raise no error for frames that were left out, unless none is left.

    Raises:
        SourceError: it cannot be read as a bag, or has no such topic, or several and none is named.
            While reading, as said, or if it is truncated.
        MissingDependencyError: rosbags is not installed.
    """

    def __init__(self, path: Path, topic: str = "", *, skip_damaged: bool = False) -> None:
        super().__init__()
        self.name = printable(path)
        self.files = bag_files(path)
        self._skip_damaged = skip_damaged
        self._open = False
        with self._faults("be read as a bag"):
            self._reader, self._deserialize = _reader(path)
            self._reader.open()
            self._open = True
        try:
            self._connections = self._chosen(topic)
        except BaseException:
            self._free()
            raise
        self._topic = self._connections[0].topic
        count = sum(each.msgcount for each in self._connections)
        self.info = SourceInfo(max(count, 0), None)

    def _chosen(self, topic: str) -> Sequence[Connection]:
        """The connections of the topic that is read."""
        found: dict[str, list[Connection]] = {}
        for each in self._reader.connections:
            if each.msgtype in (IMAGE, COMPRESSED):
                found.setdefault(each.topic, []).append(each)
        listed = ", ".join(
            f"{name} ({each[0].msgtype.rpartition('/')[2]}, {sum(c.msgcount for c in each)})"
            for name, each in sorted(found.items())
        )
        if not found:
            others = ", ".join(sorted({each.topic for each in self._reader.connections})[:20])
            raise SourceError(
                f"{self.name} has no topic of images (sensor_msgs/Image or CompressedImage); it "
                f"has: {others or 'none'}."
            )
        if not topic and len(found) > 1:
            raise SourceError(
                f"{self.name} has several topics of images: {listed}. Name one: "
                f"'bag:{self.name}?topic={min(found)}'."
            )
        if topic and topic not in found:
            raise SourceError(
                f"{self.name} has no topic of images {topic!r}.{did_you_mean(topic, found)} It "
                f"has: {listed}."
            )
        return found[topic] if topic else next(iter(found.values()))

    def _read(self) -> Generator[SourceFrame, None, None]:
        try:
            yield from self._decoded()
        finally:
            self._free()

    def _decoded(self) -> Iterator[SourceFrame]:
        index, first, undated = 0, None, False
        for msgtype, logged, raw in self._messages():
            where = f"{self.name}: frame {index} of {self._topic}"
            try:
                message = self._message(raw, msgtype, where)
                stamp = stamp_of(message, topic=self._topic, logged=logged)
                picture = picture_of(message, name=where)
            except SourceError as error:
                self._report(error)
                index += 1
                continue
            if stamp.time == 0 and not undated:
                undated = True
                _log.warning("%s has no time in its header; the bag's is taken.", where)
            time = stamp.time or logged
            first = time if first is None else first
            yield SourceFrame(
                index,
                "",
                picture.pixels,
                (time - first) / 1e9,
                channels=picture.channels,
                stamp=stamp,
            )
            del message, picture  # they would stay in memory while the net runs
            index += 1
        self._conclude(index)

    def _messages(self) -> Iterator[tuple[str, int, bytes]]:
        """Type, time and content of each message."""
        messages = iter(self._reader.messages(connections=self._connections))
        while True:
            with self._faults("be read further"):
                found = next(messages, None)
            if found is None:
                return
            connection, logged, raw = found
            yield connection.msgtype, logged, raw

    def _message(self, raw: bytes, msgtype: str, where: str) -> Any:
        try:
            return self._deserialize(raw, msgtype)
        except Exception as error:  # damage raises anything
            raise SourceError(
                f"{where} is no message of its type: {first_line(error).rstrip('.')}."
            ) from None

    def _conclude(self, count: int) -> None:
        """Raise SourceError if frames are missing."""
        if count < self.info.frames:
            raise SourceError(
                f"{self.name} is truncated: it ends after {count} frames of {self._topic}; its "
                f"index says {self.info.frames}. These are done."
            )
        if count == 0:
            raise SourceError(f"{self.name} holds no frame of {self._topic}.")
        if self.skipped == count:
            raise SourceError(f"none of {count} frames can be read. The first: {self.damaged[0]}")
        if self.skipped and not self._skip_damaged:
            raise SourceError(
                f"{self.skipped} of {count} frames cannot be read; the others are done. The first: "
                f"{self.damaged[0]} --skip-damaged takes such frames out without an error."
            )

    def reject(self, error: FrameError) -> None:
        """See `Source`: as a frame that cannot be read."""
        self._report(error)

    def _report(self, error: SourceError | FrameError) -> None:
        if self.info.frames == 1:
            raise error
        if self.skipped < _MOST_LOGGED:
            _log.warning("%s", error)
        self._leave_out(str(error))

    @contextmanager
    def _faults(self, doing: str) -> Iterator[None]:
        """Turn what rosbags raises into SourceError."""
        try:
            yield
        except MissingDependencyError:
            raise
        except Exception as error:  # damage raises anything
            self._free()
            reason = printable(first_line(error)).rstrip(".")
            raise SourceError(
                f"{self.name} cannot {doing}: {reason}. If it was cut off, "
                f"`{_MENDERS[next(filter(None, map(_storage, self.files)))]}` may mend it."
            ) from None

    def _free(self) -> None:
        if self._open:
            self._open = False
            self._reader.close()


def _reader(path: Path) -> tuple[Any, Any]:
    """A reader of rosbags, and what turns the content of a message into its fields.

    Not `AnyReader`: it compiles the definitions that the bag brings.
    """
    try:
        from rosbags.rosbag1 import Reader as Reader1
        from rosbags.rosbag2 import Reader as Reader2
        from rosbags.typesys import Stores, get_typestore
    except ImportError:
        raise MissingDependencyError("rosbags", "ros") from None
    if path.suffix.lower() == ".bag" and not path.is_dir():
        return Reader1(path), get_typestore(Stores.ROS1_NOETIC).deserialize_ros1
    return Reader2(path), get_typestore(Stores.ROS2_HUMBLE).deserialize_cdr
