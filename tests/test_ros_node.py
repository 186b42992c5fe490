"""The example of a node for ROS 2, with a stand-in for rclpy: there is no ROS here."""

from __future__ import annotations

import runpy
import sys
from array import array
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any, ClassVar

import numpy as np
import pytest

import edgeunet
from edgeunet.runtime.sources.ros_messages import image_fields
from support.commands import ROOT

EXAMPLE = ROOT / "examples" / "ros" / "node.py"
HEADER = SimpleNamespace(stamp=SimpleNamespace(sec=1, nanosec=2), frame_id="lens")


class Message:
    """Refuses what ROS's own classes refuse of a field, or take minutes for."""

    def __init__(self, **fields: Any) -> None:
        for name, value in fields.items():
            kind = {"header": SimpleNamespace, "encoding": str, "data": (array, list)}.get(
                name, int
            )
            assert type(value) in (kind if isinstance(kind, tuple) else (kind,)), (
                name,
                type(value),
            )
            if isinstance(value, array):
                assert value.typecode == "B"
            setattr(self, name, value)


class Node:
    """Of rclpy; what is published is in `published`, by topic."""

    parameters: ClassVar[dict[str, str]] = {}
    nodes: ClassVar[list[Node]] = []

    def __init__(self, name: str) -> None:
        self.published: dict[str, list[Any]] = {}
        self.listeners: dict[str, int] = {}
        self.errors: list[str] = []
        self.callback: Callable[[Any], None] | None = None
        self.nodes.append(self)

    def declare_parameter(self, name: str, default: str) -> Any:
        return SimpleNamespace(value=self.parameters.get(name, default))

    def create_publisher(self, kind: type, topic: str, depth: int) -> Any:
        self.published[topic] = []
        return SimpleNamespace(
            publish=self.published[topic].append,
            get_subscription_count=lambda: self.listeners.get(topic, 0),
        )

    def create_subscription(
        self, kind: type, topic: str, callback: Callable[[Any], None], quality: Any
    ) -> None:
        assert quality.depth == 1
        self.callback = callback

    def get_logger(self) -> Any:
        return SimpleNamespace(error=lambda text, **_: self.errors.append(text))


def run(monkeypatch: pytest.MonkeyPatch, bundle: Path, *images: Message, listeners: int) -> Node:
    """The node after these images."""

    def spin(node: Node) -> None:
        node.listeners["/camera/overlay"] = listeners
        for image in images:
            assert node.callback is not None
            node.callback(image)

    quality = {
        "QoSProfile": lambda **options: SimpleNamespace(**options),
        "ReliabilityPolicy": SimpleNamespace(BEST_EFFORT=2),
    }
    for name, values in {
        "rclpy": {"init": lambda: None, "spin": spin},
        "rclpy.node": {"Node": Node},
        "rclpy.qos": quality,
        "sensor_msgs.msg": {"Image": Message},
        "std_msgs.msg": {"Float32MultiArray": Message},
    }.items():
        module = ModuleType(name)
        vars(module).update(values)
        monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.setattr(Node, "parameters", {"bundle": str(bundle), "topic": "/camera"})
    monkeypatch.setattr(Node, "nodes", [])
    runpy.run_path(str(EXAMPLE))
    (node,) = Node.nodes
    return node


def of(pixels: Any, encoding: str, **changed: Any) -> Message:
    fields = image_fields(pixels, encoding) | changed
    data = array("B", fields.pop("data").tobytes())
    return Message(header=HEADER, data=data, **fields)


def test_node_publishes_what_the_segmenter_gives(
    gated_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert EXAMPLE.read_text(encoding="utf-8").count("\n") <= 60
    rgb = np.random.default_rng(0).integers(0, 256, (45, 71, 3), np.uint8)
    images = of(rgb, "rgb8"), of(rgb, "bayer_rggb8"), of(rgb[..., ::-1], "bgr8")
    node = run(monkeypatch, gated_bundle, *images, listeners=1)
    with edgeunet.load(gated_bundle) as segmenter:
        (expected,) = segmenter([rgb])
    assert set(node.published) == {"/camera/mask", "/camera/presence", "/camera/overlay"}
    for mask in node.published["/camera/mask"]:
        assert (mask.header, mask.encoding, mask.step) == (HEADER, "mono8", 71)
        assert np.array_equal(np.asarray(mask.data).reshape(45, 71), expected.mask)
    for overlay in node.published["/camera/overlay"]:
        assert (overlay.encoding, overlay.step) == ("rgb8", 213)
        assert np.array_equal(np.asarray(overlay.data).reshape(45, 71, 3), expected.overlay())
    assert expected.presence is not None
    for presence in node.published["/camera/presence"]:
        assert np.allclose(presence.data, expected.presence, atol=1e-5)
    assert [len(each) for each in node.published.values()] == [2, 2, 2]
    assert len(node.errors) == 1
    assert "/camera is 'bayer_rggb8'" in node.errors[0]


def test_node_draws_no_overlay_that_nobody_sees(
    fp32_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    node = run(monkeypatch, fp32_bundle, of(np.zeros((8, 8), np.uint8), "mono8"), listeners=0)
    assert [len(each) for each in node.published.values()] == [1, 0, 0]
