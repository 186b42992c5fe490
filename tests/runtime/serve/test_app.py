"""What the routes answer, over real sockets."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest

from edgeunet.runtime import load
from edgeunet.runtime.serve.app import Bounds
from edgeunet.runtime.serve.telemetry import Board
from edgeunet.runtime.sources import Frames
from support.media import VIDEO_SIZE, decode
from support.serving import (
    Client,
    read_exactly,
    read_record,
    resident,
    serving,
    stats_with_frames,
    wait_for,
)

FRAMES = 12


@pytest.fixture(scope="module")
def server(fp32_bundle: Path, film: Path, sensors: Path) -> Iterator[Client]:
    with serving(fp32_bundle, film, bounds=Bounds(viewers=2), board=Board(sensors)) as client:
        yield client


def test_page_loads_nothing_from_other_hosts(server: Client) -> None:
    page = server.ask("/")
    assert page.status == 200
    assert page.headers["content-type"].startswith("text/html")
    policy = page.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    names = re.findall(r'(?:src|href)="([^"]+)"', page.body.decode())
    assert {"static/main.js", "static/style.css"} <= set(names)
    for name in names:
        assert re.fullmatch(r"[\w./]+", name), f"{name} leads elsewhere"
    assert not re.search(r"<script(?![^>]*src=)|<style|\sstyle=|\son\w+=", page.body.decode())
    for name in {name for name in names if name.startswith("static/")}:
        assert server.ask(f"/{name}").status == 200


def test_stream_holds_the_masks_of_the_segmenter(
    server: Client, fp32_bundle: Path, film: Path
) -> None:
    frames, _ = decode(film)
    with load(fp32_bundle) as segmenter, server.stream() as response:
        for _ in range(3):
            record = read_record(response)
            frame = frames[record.meta["index"] % FRAMES]
            wanted = segmenter([frame]).masks[0]
            np.testing.assert_array_equal(record.ids, wanted)
            assert np.abs(record.frame.astype(int) - frame).mean() < 12, "another frame"
            assert sum(record.meta["shares"]) == pytest.approx(1, abs=1e-3)
            assert record.meta["presence"] is None


def test_stream_never_repeats_a_frame(server: Client) -> None:
    with server.stream() as response:
        indices = [read_record(response).meta["index"] for _ in range(6)]
    assert indices == sorted(set(indices))


def test_presence_comes_with_each_frame(gated_bundle: Path, film: Path) -> None:
    with serving(gated_bundle, film) as client, client.stream() as response:
        record = read_record(response)
        classes = client.ask("/stats").json["classes"]
        metrics = client.ask("/metrics").body.decode()
    assert len(record.meta["presence"]) == 3
    assert [item["threshold"] is None for item in classes] == [False] * 3
    assert 'edgeunet_class_presence{class="cell",source="film"}' in metrics


def test_overlay_comes_as_motion_jpeg(server: Client) -> None:
    with server.stream("/stream.mjpg") as response:
        kind = response.headers["content-type"]
        assert kind == "multipart/x-mixed-replace; boundary=edgeunet-frame"
        for _ in range(2):
            assert response.readline() == b"--edgeunet-frame\r\n"
            assert response.readline() == b"Content-Type: image/jpeg\r\n"
            length = int(response.readline().split(b":")[1])
            assert response.readline() == b"\r\n"
            image = cv2.imdecode(
                np.frombuffer(read_exactly(response, length), np.uint8), cv2.IMREAD_COLOR
            )
            assert image is not None
            assert image.shape[:2] == VIDEO_SIZE
            response.readline()


def test_too_many_viewers_are_refused(server: Client) -> None:
    with server.stream() as one, server.stream() as two:
        read_record(one), read_record(two)
        assert server.ask("/stats").json["viewers"] == 2
        refused = server.ask("/stream")
    assert refused.status == 503
    assert "too many viewers" in refused.json["error"]


def test_head_of_a_stream_has_no_body(server: Client) -> None:
    answer = server.ask("/stream", method="HEAD")
    assert (answer.status, answer.body) == (200, b"")


def test_stats_describe_stream_and_board(server: Client, film: Path) -> None:
    with server.stream() as response:
        read_record(response)
        stats = stats_with_frames(server)
    (source,) = stats["sources"]
    assert source["status"]["state"] == "playing"
    assert (source["name"], source["where"], source["live"]) == ("film", film.name, False)
    assert [item["name"] for item in stats["classes"]] == ["background", "cell", "dividing"]
    assert set(stats["stages"]) == {"decode", "preprocess", "infer", "postprocess"}
    assert all(0 < stage["p50"] <= stage["p99"] for stage in stats["stages"].values())
    assert source["encode"]["p50"] > 0
    assert 0 < source["latency"]["p50"] <= source["latency"]["p99"]
    frames = source["frames"]
    assert 0 < frames["segmented"] <= frames["read"]
    assert stats["board"]["temperatures"] == {"cpu": 51.5}


def test_health_is_ok_while_frames_flow(server: Client) -> None:
    answer = server.ask("/healthz")
    assert (answer.status, answer.json) == (200, {"status": "ok", "unwell": {}})


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/nothing", 404),
        ("GET", "/static/../app.py", 404),
        ("GET", "/static/%2e%2e/app.py", 404),
        ("GET", "/segment", 405),
        ("POST", "/stats", 405),
    ],
)
def test_unknown_requests_are_refused(server: Client, method: str, path: str, status: int) -> None:
    assert server.ask(path, method=method).status == status


@pytest.mark.parametrize(
    "path",
    [
        "/static/..%2f..%2fplayer.py",
        "/static//etc/passwd",
        "/static/%2fetc%2fpasswd",
        "/static/%00",
        "/static/main.js%00.css",
        "/static/%ff%fe",
        "/static/..%5c..%5cplayer.py",
        "/static/" + "a" * 5000,
        "/static/" + "a/" * 5000,
        "/static/../stats",
        "//stats",
        "/healthz/../stats",
        "/" + "%2e%2e/" * 500 + "etc/passwd",
    ],
)
def test_no_path_leads_out_of_the_page(
    server: Client, caplog: pytest.LogCaptureFixture, path: str
) -> None:
    assert server.ask(path).status == 404
    assert caplog.records == []


def test_ranges_are_answered_in_little_time_and_space(server: Client) -> None:
    whole = server.ask("/static/main.js").body
    part = server.ask("/static/main.js", Range="bytes=10-19")
    assert (part.status, part.body) == (206, whole[10:20])
    started = time.monotonic()
    for ranges in (
        ",".join(f"{start}-" for start in range(3000)),
        ",".join(["0-"] * 5000),
        ",".join(f"{2 * start}-{2 * start}" for start in range(1500)),
        "-" * 10_000,
        "9" * 10_000 + "-",
    ):
        answer = server.ask("/static/main.js", Range=f"bytes={ranges}")
        assert answer.status in (200, 206, 400, 416)
        assert len(answer.body) < 1_000_000
    assert time.monotonic() - started < 5


@pytest.mark.parametrize("path", ["/", "/stats", "/static/main.js", "/healthz", "/metrics"])
def test_head_has_the_headers_of_get(server: Client, path: str) -> None:
    head, whole = server.ask(path, method="HEAD"), server.ask(path)
    assert (head.status, head.body) == (200, b"")
    assert head.headers["content-type"] == whole.headers["content-type"]


def test_distinct_query_strings_take_no_memory(server: Client) -> None:
    def ask(numbers: range) -> None:
        for number in numbers:
            assert server.ask(f"/stats?{number}&{'x=1&' * 2000}").status == 200

    ask(range(150))
    before = resident()
    ask(range(150, 450))
    assert resident() - before < 8_000_000


# Several sources


@pytest.fixture(scope="module")
def several(fp32_bundle: Path, film: Path, images: Path) -> Iterator[Client]:
    """A film, images, and a camera that refuses its port."""
    camera = "door=rtsp://admin:hunter2@127.0.0.1:1/main"
    with serving(fp32_bundle, film, f"yard={images}", camera) as client:
        yield client


def test_sources_share_the_net_and_one_stream(
    several: Client, fp32_bundle: Path, images: Path
) -> None:
    seen: set[str] = set()
    with load(fp32_bundle) as segmenter, several.stream("/stream?source=film&source=yard") as many:
        while seen != {"film", "yard"}:
            seen.add(read_record(many).meta["source"])
        with several.stream("/stream?source=yard") as one:
            record = read_record(one)
            assert several.ask("/stats").json["viewers"] == 2
        frames = [each.image for each in Frames.open(images).read()]
        wanted = segmenter([frames[record.meta["index"] % len(frames)]]).masks[0]
    np.testing.assert_array_equal(record.ids, wanted)
    with several.stream() as first:
        assert read_record(first).meta["source"] == "film"


def test_each_source_has_its_own_state(several: Client) -> None:
    stats_with_frames(several)
    wait_for(lambda: several.ask("/healthz?source=door").status == 503)
    door = several.ask("/healthz?source=door").json
    assert door["status"] == "failed"
    assert "refuses port 1" in door["unwell"]["door"]
    health = several.ask("/healthz")
    assert (health.status, health.json["status"]) == (200, "degraded")
    assert list(health.json["unwell"]) == ["door"]
    sources = several.ask("/stats").json["sources"]
    states = {each["name"]: each["status"]["well"] for each in sources}
    assert states == {"film": True, "yard": True, "door": False}
    metrics = several.ask("/metrics").body.decode()
    assert 'edgeunet_up{source="film"} 1.0' in metrics
    assert 'edgeunet_up{source="door"} 0.0' in metrics
    assert "hunter2" not in metrics + str(door) + str(sources)


@pytest.mark.parametrize(
    ("path", "status", "words"),
    [
        ("/stream?source=barn", 404, "no source is called barn; there are: film, yard, door."),
        ("/stream.mjpg?source=%0a", 404, "no source is called"),
        ("/healthz?source=", 404, "no source is called"),
        ("/stream.mjpg?source=film&source=yard", 400, "motion JPEG shows one source; got 2"),
    ],
)
def test_requests_for_other_sources_are_refused(
    several: Client, path: str, status: int, words: str
) -> None:
    answer = several.ask(path)
    assert (answer.status, words in answer.json["error"]) == (status, True), answer.json
