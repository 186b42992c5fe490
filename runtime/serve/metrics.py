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
        manifest = self._telemetry.about.manifest
        yield InfoMetricFamily(
            "edgeunet",
            "The bundle and what runs it.",
            {
                "model": manifest.model,
                "weights": manifest.weights,
                "precision": manifest.precision,
                "backend": self._telemetry.player.backend,
            },
        )
        yield from self._sources()
        yield from self._net()
        yield from self._frames()
        yield from self._added()
        board = self._telemetry.now.board
        yield _gauge("temperature_celsius", "Sensors of the board.", "sensor", board.temperatures)
        yield _gauge("power_watts", "Power rails of the board.", "rail", board.power)
        yield _counter("uploads", "Uploaded images.", "outcome", self._uploads.counts)
        text = "Frames of browsers' cameras."
        yield _counter("camera_frames", text, "outcome", self._uploads.frames)

    def _sources(self) -> Iterator[Metric]:
        telemetry, sample = self._telemetry, self._telemetry.now
        hubs, counts = telemetry.hubs, sample.totals.sources
        well = {name: float(telemetry.player.status(name).well) for name in counts}
        yield _gauge("up", "1 while frames flow, else 0.", "source", well)
        yield _gauge("fps", "Frames segmented per second.", "source", sample.fps)
        viewers = {name: hub.viewers for name, hub in hubs.items()}
        yield _gauge("viewers", "Streams that show the source.", "source", viewers)
        reconnects = {name: each.reconnects for name, each in counts.items()}
        yield _counter("reconnects", "Times that the source came back.", "source", reconnects)
        frames = CounterMetricFamily(
            "edgeunet_frames", "Frames by fate.", labels=["source", "fate"]
        )
        latency = GaugeMetricFamily(
            "edgeunet_latency_seconds",
            "Time from reading a frame to its mask, over the last 1000 frames.",
            labels=["source", "quantile"],
        )
        for name, each in counts.items():
            for fate in _FATES:
                frames.add_metric([name, fate], getattr(each, fate))
            latency.add_metric([name, "0.5"], each.latency_p50 / 1000)
            latency.add_metric([name, "0.99"], each.latency_p99 / 1000)
        yield frames
        yield latency

    def _net(self) -> Iterator[Metric]:
        totals = self._telemetry.now.totals
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

    def _frames(self) -> Iterator[Metric]:
        """The classes in the newest frames, measured when Prometheus asks."""
        classes = self._telemetry.about.manifest.classes
        labels = ["source", "class"]
        share = GaugeMetricFamily(
            "edgeunet_class_share", "Share of the newest frame's pixels.", labels=labels
        )
        presence = GaugeMetricFamily(
            "edgeunet_class_presence", "Presence by the gate in the newest frame.", labels=labels
        )
        for source, hub in self._telemetry.hubs.items():
            if (frame := hub.frame) is None:
                continue
            for name, value in zip(classes, shares(frame.mask, len(classes)), strict=True):
                share.add_metric([source, name], value)
            for name, present in zip(
                classes, frame.presence if frame.presence is not None else (), strict=False
            ):
                presence.add_metric([source, name], float(present))
        yield share
        yield presence

    def _added(self) -> Iterator[Metric]:
        """What the server does only if it was asked to."""
        comparison, recordings = self._telemetry.comparison, self._telemetry.recordings
        if comparison is not None:
            shares = {name: comparison.agreement(name) for name in self._telemetry.hubs}
            known = {name: share for name, share in shares.items() if share is not None}
            text = "Share of the pixels to which both nets give one class, over the last seconds."
            yield _gauge("agreement", text, "source", known)
        if recordings is not None:
            reports = recordings.report()
            active = {name: float(each["active"]) for name, each in reports.items()}
            yield _gauge("recording", "1 while the source is recorded.", "source", active)
            dropped = {name: float(each["dropped"]) for name, each in reports.items()}
            text = "Frames that the source's recording lacks: its encoder was too slow."
            yield _gauge("recording_dropped", text, "source", dropped)


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
