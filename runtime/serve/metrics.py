"""The same numbers for Prometheus."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    InfoMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from ..backends import Backend
from .hub import Hub
from .pictures import shares
from .telemetry import Telemetry
from .uploads import Uploads

_COUNTED = ("read", "segmented", "dropped", "skipped")


def make_registry(
    telemetry: Telemetry, hub: Hub, uploads: Uploads, net: Backend
) -> CollectorRegistry:
    """A registry of the server's metrics and the process's."""
    registry = CollectorRegistry()
    registry.register(_Collector(telemetry, hub, uploads, net))
    ProcessCollector(registry=registry)
    return registry


class _Collector(Collector):
    def __init__(self, telemetry: Telemetry, hub: Hub, uploads: Uploads, net: Backend) -> None:
        self._telemetry = telemetry
        self._hub = hub
        self._uploads = uploads
        self._net = net

    def collect(self) -> Iterator[Metric]:
        manifest = self._telemetry.about.manifest
        yield InfoMetricFamily(
            "edgeunet",
            "The bundle and what runs it.",
            {
                "model": manifest.model,
                "weights": manifest.weights,
                "precision": manifest.precision,
                "backend": self._net.name,
                "source": self._telemetry.about.source,
            },
        )
        yield from self._stream()
        yield from self._picture()
        yield from self._board()
        uploads = CounterMetricFamily("edgeunet_uploads", "Images sent in.", labels=["outcome"])
        for outcome, count in self._uploads.counts.items():
            uploads.add_metric([outcome], count)
        yield uploads

    def _stream(self) -> Iterator[Metric]:
        sample = self._telemetry.now
        well = float(self._telemetry.status.well)
        yield GaugeMetricFamily("edgeunet_up", "1 where frames flow, else 0.", well)
        yield GaugeMetricFamily("edgeunet_fps", "Frames segmented a second.", sample.fps)
        yield GaugeMetricFamily("edgeunet_viewers", "Streams being watched.", self._hub.viewers)
        yield CounterMetricFamily(
            "edgeunet_reconnects", "Times that the source came back.", sample.totals.reconnects
        )
        frames = CounterMetricFamily("edgeunet_frames", "Frames by fate.", labels=["fate"])
        for name in _COUNTED:
            frames.add_metric([name], getattr(sample.totals, name))
        yield frames
        depths = CounterMetricFamily(
            "edgeunet_depth_frames", "Frames by the depth that segmented them.", labels=["depth"]
        )
        for depth, count in self._net.frames_by_depth.items():
            depths.add_metric([str(depth)], count)
        yield depths
        busy = CounterMetricFamily(
            "edgeunet_stage_busy_seconds", "Time that a stage was at work.", labels=["stage"]
        )
        for name, seconds in sample.totals.busy.items():
            busy.add_metric([name], seconds)
        yield busy
        times = GaugeMetricFamily(
            "edgeunet_stage_seconds",
            "Time of a frame in a stage, of the last 1000 batches.",
            labels=["stage", "quantile"],
        )
        for name, stage in sample.totals.stages.items():
            times.add_metric([name, "0.5"], stage.p50 / 1000)
            times.add_metric([name, "0.99"], stage.p99 / 1000)
        yield times

    def _picture(self) -> Iterator[Metric]:
        """What is to be seen: of the frame that is the newest when Prometheus asks."""
        latest = self._hub.latest
        if latest is None:
            return
        classes = self._telemetry.about.manifest.classes
        of_pixels = GaugeMetricFamily(
            "edgeunet_class_share", "Share of the newest frame's pixels.", labels=["class"]
        )
        for name, share in zip(classes, shares(latest.mask, len(classes)), strict=True):
            of_pixels.add_metric([name], share)
        yield of_pixels
        if latest.presence is None:
            return
        presence = GaugeMetricFamily(
            "edgeunet_class_presence", "The gate's presence in the newest frame.", labels=["class"]
        )
        for name, value in zip(classes, latest.presence, strict=True):
            presence.add_metric([name], float(value))
        yield presence

    def _board(self) -> Iterator[Metric]:
        board = self._telemetry.now.board
        heat = GaugeMetricFamily(
            "edgeunet_temperature_celsius", "Sensors of the board.", labels=["sensor"]
        )
        for name, value in board.temperatures.items():
            heat.add_metric([name], value)
        power = GaugeMetricFamily("edgeunet_power_watts", "Rails of the board.", labels=["rail"])
        for name, value in board.power.items():
            power.add_metric([name], value)
        yield from (heat, power)
