"""Metrics for Prometheus."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from edgeunet.runtime.serve.app import Bounds
from edgeunet.runtime.serve.telemetry import Board
from support.serving import Client, serving, stats_with_frames


@pytest.fixture(scope="module")
def server(fp32_bundle: Path, film: Path, sensors: Path) -> Iterator[Client]:
    with serving(fp32_bundle, film, bounds=Bounds(viewers=2), board=Board(sensors)) as client:
        yield client


def test_metrics_parse_as_prometheus(server: Client) -> None:
    stats_with_frames(server)
    answer = server.ask("/metrics")
    assert answer.headers["content-type"].startswith("text/plain")
    families = {f.name: f for f in text_string_to_metric_families(answer.body.decode())}
    assert families["edgeunet_up"].samples[0].value == 1
    frames = families["edgeunet_frames"].samples
    fates = {(s.labels["source"], s.labels["fate"]): s.value for s in frames}
    wanted = {("film", fate) for fate in ("read", "segmented", "dropped", "skipped")}
    assert set(fates) == wanted
    assert fates["film", "segmented"] > 0
    shares = [s.value for s in families["edgeunet_class_share"].samples]
    assert sum(shares) == pytest.approx(1, abs=1e-3)
    assert families["edgeunet_temperature_celsius"].samples[0].value == 51.5
