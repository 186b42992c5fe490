"""The metrics of the server for Prometheus."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, InfoMetricFamily, Metric
from prometheus_client.registry import Collector

from .pictures import shares
from .telemetry import Telemetry
from .uploads import Uploads

_FATES = ("read", "segmented", "dropped", "skipped")


def make_registry(telemetry: Telemetry, uploads: Uploads) -> CollectorRegistry:
    """A registry of the server's metrics and the process's."""
    registry = CollectorRegistry()
    registry.register(_Collector(telemetry, uploads))
    ProcessCollector(registry=registry)
    return registry


class _Collector(Collector):
    def __init__(self, telemetry: Telemetry, uploads: Uploads) -> None:
        self._telemetry = telemetry
        self._uploads = uploads

    def collect(self) -> Iterator[Metric]:
        about = self._telemetry.about
        manifest = about.manifest
        yield InfoMetricFamily(
            "edgeunet",
            "The bundle and what runs it.",
            {
                "model": manifest.model,
                "weights": manifest.weights,
                "precision": manifest.precision,
                "backend": self._telemetry.player.backend,
                "source": about.source,
            },
        )
        yield from self._stream()
        yield from self._frame()
        board = self._telemetry.now.board
        yield _gauge("temperature_celsius", "Sensors of the board.", "sensor", board.temperatures)
        yield _gauge("power_watts", "Power rails of the board.", "rail", board.power)
        yield _counter("uploads", "Uploaded images.", "outcome", self._uploads.counts)
        text = "Frames of browsers' cameras."
        yield _counter("camera_frames", text, "outcome", self._uploads.frames)

    def _stream(self) -> Iterator[Metric]:
        sample = self._telemetry.now
        totals = sample.totals
        well = float(self._telemetry.player.status.well)
        yield GaugeMetricFamily("edgeunet_up", "1 while frames flow, else 0.", well)
        yield GaugeMetricFamily("edgeunet_fps", "Frames segmented per second.", sample.fps)
        yield GaugeMetricFamily(
            "edgeunet_viewers", "Streams being watched.", self._telemetry.hub.viewers
        )
        yield CounterMetricFamily(
            "edgeunet_reconnects", "Times that the source came back.", totals.reconnects
        )
        frames = {name: getattr(totals, name) for name in _FATES}
        yield _counter("frames", "Frames by fate.", "fate", frames)
        depths = {str(depth): count for depth, count in self._telemetry.player.depths.items()}
        yield _counter("depth_frames", "Frames by the depth that segmented them.", "depth", depths)
        yield _counter("stage_busy_seconds", "Time that a stage worked.", "stage", totals.busy)
        times = GaugeMetricFamily(
            "edgeunet_stage_seconds",
            "Time of a frame in a stage, over the last 1000 batches.",
            labels=["stage", "quantile"],
        )
        for name, stage in totals.stages.items():
            times.add_metric([name, "0.5"], stage.p50 / 1000)
            times.add_metric([name, "0.99"], stage.p99 / 1000)
        yield times

    def _frame(self) -> Iterator[Metric]:
        """The classes in the newest frame, measured when Prometheus asks."""
        frame = self._telemetry.hub.frame
        if frame is None:
            return
        classes = self._telemetry.about.manifest.classes
        by_class = dict(zip(classes, shares(frame.mask, len(classes)), strict=True))
        yield _gauge("class_share", "Share of the newest frame's pixels.", "class", by_class)
        if frame.presence is not None:
            presence = dict(zip(classes, map(float, frame.presence), strict=True))
            text = "Presence by the gate in the newest frame."
            yield _gauge("class_presence", text, "class", presence)


def _gauge(name: str, text: str, label: str, values: Mapping[str, float]) -> Metric:
    metric = GaugeMetricFamily(f"edgeunet_{name}", text, labels=[label])
    for value_label, value in values.items():
        metric.add_metric([value_label], value)
    return metric


def _counter(name: str, text: str, label: str, values: Mapping[str, float]) -> Metric:
    metric = CounterMetricFamily(f"edgeunet_{name}", text, labels=[label])
    for value_label, value in values.items():
        metric.add_metric([value_label], value)
    return metric
