"""Bags of ROS 1 and ROS 2 with images."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from rosbags.rosbag1 import Writer as Writer1
from rosbags.rosbag2 import StoragePlugin
from rosbags.rosbag2 import Writer as Writer2
from rosbags.typesys import Stores, get_typestore

from edgeunet.runtime.sources.ros_messages import COMPRESSED, IMAGE

SECOND = 1_000_000_000
ROS1, ROS2 = get_typestore(Stores.ROS1_NOETIC), get_typestore(Stores.ROS2_HUMBLE)


@dataclass(frozen=True)
class Message:
    """An image on a topic. fields: those of its type beside the header; raw: instead of all."""

    fields: dict[str, Any]
    time: int = 0
    logged: int = 0
    topic: str = "/image"
    raw: bytes | None = None

    @property
    def kind(self) -> str:
        return COMPRESSED if "format" in self.fields else IMAGE


def rgb(image: npt.NDArray[np.uint8], **changed: Any) -> dict[str, Any]:
    """Fields of a message with RGB pixels (H, W, 3)."""
    height, width, _ = image.shape
    plain = {"encoding": "rgb8", "is_bigendian": 0, "step": 3 * width, "data": image.reshape(-1)}
    return {"height": height, "width": width, **plain, **changed}


def film(images: Sequence[npt.NDArray[np.uint8]], **named: Any) -> list[Message]:
    """Images ten times a second, recorded a bit later than their headers say."""
    start = 1_700_000_000 * SECOND
    return [
        Message(rgb(image), start + index * SECOND // 10, start + index * SECOND // 10 + 7, **named)
        for index, image in enumerate(images)
    ]


def write_bag(path: Path, messages: Sequence[Message]) -> Path:
    """A bag of the kind that its name says: .bag, .mcap, .db3, or a folder NAME.mcap/ or NAME/."""
    if path.suffix == ".bag":
        return _write(Writer1(path), messages, ROS1, path)
    plugin = StoragePlugin.SQLITE3 if path.suffix == ".db3" else StoragePlugin.MCAP
    if not path.suffix:
        return _write(Writer2(path, version=9, storage_plugin=plugin), messages, ROS2, path)
    folder = path.with_suffix(".folder")
    _write(Writer2(folder, version=9, storage_plugin=plugin), messages, ROS2, folder)
    (folder / f"{folder.name}{path.suffix}").rename(path)
    shutil.rmtree(folder)
    return path


def _write(writer: Any, messages: Sequence[Message], store: Any, path: Path) -> Path:
    connections: dict[tuple[str, str], Any] = {}
    with writer:
        for each in messages:
            key = each.topic, each.kind
            if key not in connections:
                connections[key] = writer.add_connection(*key, typestore=store)
            writer.write(connections[key], each.logged, content(each, store))
    return path


def content(message: Message, store: Any) -> bytes:
    """A message as it is stored."""
    if message.raw is not None:
        return message.raw
    kinds = store.types
    time = kinds["builtin_interfaces/msg/Time"](*divmod(message.time, SECOND))
    named = {"seq": 0} if store is ROS1 else {}
    header = kinds["std_msgs/msg/Header"](stamp=time, frame_id="lens", **named)
    built = kinds[message.kind](header=header, **message.fields)
    serialize = store.serialize_ros1 if store is ROS1 else store.serialize_cdr
    return bytes(serialize(built, message.kind))
