"""Masks as a bag of ROS 2, never left half-written."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Sequence
from contextlib import ExitStack
from fractions import Fraction
from pathlib import Path
from typing import Any

from edgeunet.errors import MissingDependencyError
from edgeunet.files import check_file, locked, new_temporary, remove_stale

from ..frames import Segmented, Stamp
from ..sources.ros_messages import IMAGE, mask_fields, mask_topic
from .base import Sink

BAG_SUFFIX = ".mcap"
"""Suffix of a bag: MCAP, which ROS 2 and Foxglove read."""

_TOPIC = "/image"  # of frames that came from no topic


class MaskBag(Sink):
    """Writes MCAP of ROS 2: `sensor_msgs/Image` in mono8, the class id of each pixel.

    Time and frame_id are those of the frame's header, and the topic is named after the frame's, see
    `mask_topic`. Frames of other sources are at the time since the first one, on `/image/mask`. The
    file appears under its name when closed, and only if it holds a frame.

    Args:
        rate: frames per second, for frames without a time.

    Raises:
        UsageError: a directory is in its place. OutputExistsError: the file exists and `force` is
            false. OutputError: another run writes the file. MissingDependencyError: rosbags is not
            installed.
    """

    def __init__(
        self, path: Path, *, rate: Fraction, classes: Sequence[str], force: bool = False
    ) -> None:
        try:
            from rosbags.rosbag2 import CompressionFormat, CompressionMode, StoragePlugin, Writer
            from rosbags.typesys import Stores, get_typestore
        except ImportError:
            raise MissingDependencyError("rosbags", "ros") from None
        check_file(path, force=force)
        path.parent.mkdir(parents=True, exist_ok=True)
        self.path, self._rate = path, rate
        self._types = get_typestore(Stores.ROS2_HUMBLE)
        self._topics: dict[str, Any] = {}
        self._frames, self._whole = 0, True
        with ExitStack() as stack:
            stack.enter_context(locked(path))
            remove_stale(path.parent)
            folder, handle = new_temporary(path.parent, directory=True)
            stack.callback(os.close, handle)
            stack.callback(shutil.rmtree, folder, ignore_errors=True)
            # Version 9 is that of ROS 2 Jazzy; a lone file has its number nowhere that others read.
            self._writer = Writer(folder / "bag", version=9, storage_plugin=StoragePlugin.MCAP)
            self._writer.set_compression(CompressionMode.STORAGE, CompressionFormat.ZSTD)
            self._writer.set_custom_data("classes", json.dumps(list(classes)))
            self._writer.open()
            self._file = folder / "bag" / "bag.mcap"
            stack.callback(self._writer.abort)  # does nothing once it is closed
            self._stack = stack.pop_all()

    def write(self, segmented: Segmented) -> None:
        """Write one mask; OSError if the disk is full."""
        stamp = segmented.frame.stamp or self._stamp(segmented)
        self._whole = False  # until all of it is written
        topic = mask_topic(stamp.topic)
        if topic not in self._topics:
            self._topics[topic] = self._writer.add_connection(topic, IMAGE, typestore=self._types)
        kinds = self._types.types
        time = kinds["builtin_interfaces/msg/Time"](*divmod(stamp.time, 1_000_000_000))
        header = kinds["std_msgs/msg/Header"](stamp=time, frame_id=stamp.frame_id)
        image = kinds[IMAGE](header=header, **mask_fields(segmented.mask))
        self._writer.write(
            self._topics[topic], stamp.logged, self._types.serialize_cdr(image, IMAGE)
        )
        self._frames += 1
        self._whole = True

    def _stamp(self, segmented: Segmented) -> Stamp:
        """Of a frame from elsewhere."""
        time = segmented.frame.time
        seconds = segmented.frame.index / self._rate if time is None else max(time, 0)
        nanoseconds = round(seconds * 1_000_000_000)
        return Stamp(_TOPIC, "", nanoseconds, nanoseconds)

    def close(self) -> None:
        """Finish the file and move it to its name; a second call does nothing."""
        with self._stack:
            if self._frames and self._whole:
                self._writer.close()
                with self._file.open("rb+") as file:
                    os.fsync(file.fileno())
                self._file.replace(self.path)
            self._frames = 0
