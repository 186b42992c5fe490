"""The player: sources that fail, fall silent, end or start again."""

from __future__ import annotations

import io
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from edgeunet.errors import BackendError, SourceError
from edgeunet.runtime import load
from edgeunet.runtime.frames import NetOutputs, Segmented
from edgeunet.runtime.segmenter import Segmenter
from edgeunet.runtime.serve import server as server_module
from edgeunet.runtime.serve.player import Counts, Player
from edgeunet.runtime.serve.reopening import open_playing
from edgeunet.runtime.sources import Frames, Source
from support.media import cut_to, write_video
from support.nets import Infer, change_nets
from support.serving import (
    CAMERA,
    WAIT,
    Camera,
    Client,
    no_descriptors,
    read_record,
    serving,
    wait_for,
)

FRAMES = 6


@pytest.fixture(scope="module")
def segmenter(fp32_bundle: Path) -> Iterator[Segmenter]:
    with load(fp32_bundle) as loaded:
        yield loaded


@contextmanager
def playing(
    segmenter: Segmenter, *sources: Callable[[], Source]
) -> Iterator[tuple[Player, list[Segmented]]]:
    """Sources, called a, b and so on."""
    published: list[Segmented] = []
    named = dict(zip("abcd", sources, strict=False))
    with Player(segmenter, named, publish=published.append, quiet=0.3, retry=0.05) as player:
        player.start()
        yield player, published
    assert player.ended


@pytest.mark.parametrize("after", ["error", "end", "bug"])
def test_live_source_is_opened_again(segmenter: Segmenter, after: str) -> None:
    attempts: list[Camera] = []

    def open_camera() -> Source:
        attempts.append(Camera(FRAMES, after if len(attempts) < 2 else "silence"))
        return attempts[-1]

    with playing(segmenter, open_camera) as (player, published):
        wait_for(lambda: len(attempts) == 3 and player.status("a").state == "playing")
        wait_for(lambda: player.totals().sources["a"].reconnects == 2)
    assert len(published) >= 3
    totals = player.totals().sources["a"]
    assert totals.segmented == len(published)
    assert totals.read == totals.segmented + totals.dropped


def test_reason_of_a_failure_hides_the_password(segmenter: Segmenter) -> None:
    def open_camera() -> Source:
        return Camera(1, "error")

    with playing(segmenter, open_camera) as (player, _):
        wait_for(lambda: player.status("a").state == "failed")
        status = player.status("a")
    assert status.retrying
    assert not status.well
    assert status.reason == "rtsp://***@10.0.0.7:554/stream is gone: connection reset."


def test_silent_camera_is_reported(segmenter: Segmenter) -> None:
    with playing(segmenter, lambda: Camera(2, "silence")) as (player, _):
        wait_for(lambda: player.status("a").state == "playing")
        wait_for(lambda: player.status("a").state == "waiting")
        assert "no frame for" in player.status("a").reason
        assert not player.status("a").well


def test_camera_without_any_frame_is_reported(segmenter: Segmenter) -> None:
    with playing(segmenter, lambda: Camera(0, "silence")) as (player, _):
        assert player.status("a").state == "starting"
        wait_for(lambda: player.status("a").state == "waiting")
        assert "no frame yet" in player.status("a").reason


def test_camera_that_does_not_answer_at_first_is_retried(segmenter: Segmenter) -> None:
    attempts = 0

    def open_camera() -> Source:
        nonlocal attempts
        attempts += 1
        if attempts < 3:
            raise SourceError(f"{CAMERA} does not answer.")
        return Camera(2, "silence")

    with playing(segmenter, open_camera) as (_, published):
        wait_for(lambda: published)
    assert attempts == 3


def test_file_damaged_at_its_first_frame_is_final(segmenter: Segmenter, tmp_path: Path) -> None:
    folder = tmp_path / "pictures"
    folder.mkdir()
    (folder / "0.png").write_bytes(b"no picture")
    with playing(segmenter, lambda: open_playing(Frames.open(folder))) as (player, published):
        wait_for(lambda: player.status("a").state == "failed")
        wait_for(lambda: player.ended)
        assert "0.png" in player.status("a").reason
        assert not player.status("a").retrying
    assert not published


def test_file_damaged_later_plays_again(segmenter: Segmenter, tmp_path: Path) -> None:
    path = cut_to(write_video(tmp_path / "clip.mp4", 12, index_first=True), 0.6)
    with playing(segmenter, lambda: open_playing(Frames.open(path))) as (player, published):
        wait_for(lambda: player.status("a").state == "failed")
        assert "clip.mp4 is" in player.status("a").reason
        assert player.status("a").retrying
        wait_for(lambda: player.totals().sources["a"].reconnects >= 2)
    assert published


@pytest.mark.parametrize("lacks", ["file", "descriptors"])
def test_file_that_cannot_be_opened_again_is_retried(
    segmenter: Segmenter, tmp_path: Path, lacks: str
) -> None:
    path = write_video(tmp_path / "clip.mp4", FRAMES)
    away = tmp_path / "away.mp4"
    with (
        playing(segmenter, lambda: open_playing(Frames.open(path))) as (player, published),
        ExitStack() as stack,
    ):
        wait_for(lambda: published)
        if lacks == "file":
            path.rename(away)
        else:
            stack.enter_context(no_descriptors())
        wait_for(lambda: player.status("a").state == "failed")
        assert player.status("a").retrying
        if lacks == "file":
            away.rename(path)
        else:
            stack.close()
        before = len(published)
        wait_for(lambda: len(published) > before and player.status("a").well)


def test_backend_failure_on_a_file_is_retried(
    segmenter: Segmenter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_video(tmp_path / "clip.mp4", FRAMES)
    failures = iter([BackendError("lost")])

    def fails_once(infer: Infer, images: npt.NDArray[np.float32]) -> NetOutputs:
        for failure in failures:
            raise failure
        return infer(images)

    change_nets(segmenter, fails_once, monkeypatch)
    with playing(segmenter, lambda: open_playing(Frames.open(path))) as (_, published):
        wait_for(lambda: published)


def test_failed_attempts_do_not_count_as_reconnects(segmenter: Segmenter) -> None:
    away = [SourceError(f"{CAMERA} does not answer.")] * 3

    def open_camera() -> Source:
        if away:
            raise away.pop()
        return Camera(FRAMES, "silence")

    with playing(segmenter, open_camera) as (player, published):
        wait_for(lambda: published)
        wait_for(lambda: player.totals().sources["a"].reconnects == 1)


def test_totals_never_decrease(segmenter: Segmenter) -> None:
    seen: list[Counts] = []
    with playing(segmenter, lambda: Camera(3, "end")) as (player, _):
        while player.totals().sources["a"].reconnects < 4:
            seen.append(player.totals().sources["a"])
    for name in ("read", "segmented", "dropped", "reconnects"):
        values = [getattr(totals, name) for totals in seen]
        assert values == sorted(values), name


# Several sources


def test_lost_source_is_reopened_alone(segmenter: Segmenter) -> None:
    """Neither one that fails again and again nor one that hangs holds up the others."""
    opened = {"steady": 0, "failing": 0}
    hung = threading.Event()

    def steady() -> Source:
        opened["steady"] += 1
        return Camera(10_000, "silence")

    def failing() -> Source:
        opened["failing"] += 1
        return Camera(2, "error")

    def hangs() -> Source:
        hung.wait(WAIT)
        raise SourceError("it never answered.")

    try:
        with playing(segmenter, steady, failing, hangs) as (player, published):
            wait_for(lambda: player.totals().sources["b"].reconnects >= 2)
            wait_for(lambda: player.status("c").state == "waiting")
            wait_for(lambda: player.status("b").state == "failed")
            assert player.status("a").state == "playing"
            counts = player.totals().sources
            assert counts["c"] == Counts()
            indices = [each.frame.index for each in published if each.source == "b"]
            assert indices == sorted(set(indices)), "numbers go on after a failure"
            assert indices[-1] >= 4
            hung.set()
    finally:
        hung.set()
    assert opened["steady"] == 1
    assert opened["failing"] >= 3


def test_close_leaves_a_hung_camera_behind(segmenter: Segmenter) -> None:
    hung = threading.Event()

    def hangs() -> Source:
        hung.wait(WAIT)
        raise SourceError("it never answered.")

    cameras = {"a": hangs, "b": lambda: Camera(2, "silence")}
    player = Player(segmenter, cameras, publish=lambda segmented: None)
    player.start()
    wait_for(lambda: player.status("b").state == "playing")
    started = time.monotonic()
    player.close()
    assert time.monotonic() - started < 3
    assert not player.ended, "a thread still hangs in the camera"
    hung.set()
    wait_for(lambda: player.ended)


def test_frames_that_the_net_does_not_take_are_a_failure_of_their_source(
    segmenter: Segmenter,
) -> None:
    flat = Camera(3, "silence", channels=2)
    with playing(segmenter, lambda: flat, lambda: Camera(3, "silence")) as (player, published):
        wait_for(lambda: player.status("a").state == "failed")
        assert "2 channels" in player.status("a").reason
        wait_for(lambda: any(each.source == "b" for each in published))
        assert player.totals().sources["a"].read == 0


# What the server reports


def test_failed_camera_is_reported_and_the_server_stays(
    fp32_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server_module, "open_playing", lambda source: Camera(2, "error"))
    with serving(fp32_bundle, CAMERA) as client:
        with client.stream() as response:
            read_record(response)
        wait_for(lambda: client.ask("/healthz").status == 503)
        health, stats = client.ask("/healthz"), client.ask("/stats")
        metrics = client.ask("/metrics").body.decode()
        assert health.json["status"] == "failed"
        assert "is gone" in health.json["unwell"]["10.0.0.7-554-stream"]
        (source,) = stats.json["sources"]
        assert source["where"] == "rtsp://***@10.0.0.7:554/stream"
        assert source["live"]
        assert 'edgeunet_up{source="10.0.0.7-554-stream"} 0.0' in metrics
        for text in (health.body, stats.body, metrics.encode(), client.ask("/").body):
            assert b"hunter2" not in text
        assert_still_segments(client)


def assert_still_segments(client: Client) -> None:
    body = io.BytesIO()
    Image.new("RGB", (9, 9)).save(body, "png")
    assert client.ask("/segment", method="POST", body=body.getvalue()).status == 200
