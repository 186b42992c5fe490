"""The player: sources that fail, fall silent, end or start again."""

from __future__ import annotations

import io
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from edgeunet.errors import BackendError, SourceError
from edgeunet.runtime import load
from edgeunet.runtime.frames import Segmented
from edgeunet.runtime.segmenter import Segmenter
from edgeunet.runtime.serve import server as server_module
from edgeunet.runtime.serve.player import Looped, Player, Totals, open_playing
from edgeunet.runtime.sources import Source, SourceFrame, SourceInfo
from support.media import VIDEO_RATE, cut_to, number_of, write_png, write_video
from support.serving import Client, no_descriptors, read_record, serving, wait_for

FRAMES = 6
CAMERA = "rtsp://admin:hunter2@10.0.0.7:554/stream"


class Camera(Source):
    """Frames as fast as they are read, then an error, an end, or silence."""

    def __init__(self, frames: int, after: str) -> None:
        super().__init__()
        self.info = SourceInfo(0, None, live=True)
        self._count = frames
        self._after = after

    def _read(self) -> Generator[SourceFrame, None, None]:
        for index in range(self._count):
            yield SourceFrame(index, "", np.full((8, 8, 3), 9 * index, np.uint8))
            time.sleep(0.002)
        if self._after == "error":
            raise SourceError(f"{CAMERA} is gone: connection reset.")
        if self._after == "bug":
            raise ZeroDivisionError
        if self._after == "silence":
            self._stopped.wait()


@pytest.fixture(scope="module")
def segmenter(fp32_bundle: Path) -> Iterator[Segmenter]:
    with load(fp32_bundle) as loaded:
        yield loaded


@contextmanager
def playing(
    segmenter: Segmenter, sources: Callable[[], Source]
) -> Iterator[tuple[Player, list[Segmented]]]:
    published: list[Segmented] = []
    with Player(segmenter, sources, publish=published.append, quiet=0.3, retry=0.05) as player:
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
        wait_for(lambda: len(attempts) == 3 and player.status.state == "playing")
        wait_for(lambda: player.totals().reconnects == 2)
    assert len(published) >= 3
    totals = player.totals()
    assert totals.segmented == len(published)
    assert totals.read == totals.segmented + totals.dropped


def test_reason_of_a_failure_hides_the_password(segmenter: Segmenter) -> None:
    def open_camera() -> Source:
        return Camera(1, "error")

    with playing(segmenter, open_camera) as (player, _):
        wait_for(lambda: player.status.state == "failed")
        status = player.status
    assert status.retrying
    assert not status.well
    assert status.reason == "rtsp://***@10.0.0.7:554/stream is gone: connection reset."


def test_silent_camera_is_reported(segmenter: Segmenter) -> None:
    with playing(segmenter, lambda: Camera(2, "silence")) as (player, _):
        wait_for(lambda: player.status.state == "playing")
        wait_for(lambda: player.status.state == "waiting")
        assert "no frame for" in player.status.reason
        assert not player.status.well


def test_camera_without_any_frame_is_reported(segmenter: Segmenter) -> None:
    with playing(segmenter, lambda: Camera(0, "silence")) as (player, _):
        assert player.status.state == "starting"
        wait_for(lambda: player.status.state == "waiting")
        assert "no frame yet" in player.status.reason


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
    with playing(segmenter, lambda: open_playing(str(folder))) as (player, published):
        wait_for(lambda: player.status.state == "failed")
        wait_for(lambda: player.ended)
        assert "0.png" in player.status.reason
        assert not player.status.retrying
    assert not published


def test_file_damaged_later_plays_again(segmenter: Segmenter, tmp_path: Path) -> None:
    path = cut_to(write_video(tmp_path / "clip.mp4", 12, index_first=True), 0.6)
    with playing(segmenter, lambda: open_playing(str(path))) as (player, published):
        wait_for(lambda: player.status.state == "failed")
        assert "clip.mp4 is" in player.status.reason
        assert player.status.retrying
        wait_for(lambda: player.totals().reconnects >= 2)
    assert published


@pytest.mark.parametrize("lacks", ["file", "descriptors"])
def test_file_that_cannot_be_opened_again_is_retried(
    segmenter: Segmenter, tmp_path: Path, lacks: str
) -> None:
    path = write_video(tmp_path / "clip.mp4", FRAMES)
    away = tmp_path / "away.mp4"
    with (
        playing(segmenter, lambda: open_playing(str(path))) as (player, published),
        ExitStack() as stack,
    ):
        wait_for(lambda: published)
        if lacks == "file":
            path.rename(away)
        else:
            stack.enter_context(no_descriptors())
        wait_for(lambda: player.status.state == "failed")
        assert player.status.retrying
        if lacks == "file":
            away.rename(path)
        else:
            stack.close()
        before = len(published)
        wait_for(lambda: len(published) > before and player.status.well)


def test_backend_failure_on_a_file_is_retried(
    segmenter: Segmenter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_video(tmp_path / "clip.mp4", FRAMES)
    lane, failures = segmenter.backend.net.lane(), iter([BackendError("lost")])
    infer = lane.infer_gated

    def fails_once(images: object) -> object:
        for failure in failures:
            raise failure
        return infer(images)  # type: ignore[arg-type]

    monkeypatch.setattr(lane, "infer_gated", fails_once)
    with playing(segmenter, lambda: open_playing(str(path))) as (_, published):
        wait_for(lambda: published)


def test_failed_attempts_do_not_count_as_reconnects(segmenter: Segmenter) -> None:
    away = [SourceError(f"{CAMERA} does not answer.")] * 3

    def open_camera() -> Source:
        if away:
            raise away.pop()
        return Camera(FRAMES, "silence")

    with playing(segmenter, open_camera) as (player, published):
        wait_for(lambda: published)
        wait_for(lambda: player.totals().reconnects == 1)


def test_totals_never_decrease(segmenter: Segmenter) -> None:
    seen: list[Totals] = []
    with playing(segmenter, lambda: Camera(3, "end")) as (player, _):
        while player.totals().reconnects < 4:
            seen.append(player.totals())
    for name in ("read", "segmented", "dropped", "reconnects"):
        values = [getattr(totals, name) for totals in seen]
        assert values == sorted(values), name


# Files that play like cameras


def test_file_plays_in_a_loop_at_its_own_rate(tmp_path: Path) -> None:
    path = write_video(tmp_path / "clip.mp4", FRAMES)
    with open_playing(str(path)) as source:
        assert isinstance(source, Looped)
        assert source.info.live
        started = time.monotonic()
        frames = [next(source) for _ in range(2 * FRAMES + 1)]
        seconds = time.monotonic() - started
    assert [frame.index for frame in frames] == list(range(2 * FRAMES + 1))
    assert [number_of(frame.image) for frame in frames] == [*range(FRAMES), *range(FRAMES), 0]
    assert frames[5].time == pytest.approx(5 / VIDEO_RATE)
    assert seconds >= 2 * FRAMES / VIDEO_RATE * 0.99  # a busy machine may take longer


def test_file_stops_at_once(tmp_path: Path, images: Path) -> None:
    with open_playing(str(images)) as source:
        next(source)
        source.stop()
        assert next(source, None) is None


def test_image_that_cannot_be_read_is_left_out_each_time(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"none")
    write_png(tmp_path / "b.png", np.full((4, 6), 7, np.uint8))
    with open_playing(str(tmp_path)) as source:
        assert next(source).name == "b.png"
        assert next(source).name == "b.png"
        assert source.skipped == 1, "of the first round"


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
        assert "is gone" in health.json["reason"]
        assert stats.json["source"] == {"name": "rtsp://***@10.0.0.7:554/stream", "live": True}
        assert "edgeunet_up 0.0" in metrics
        for text in (health.body, stats.body, metrics.encode(), client.ask("/").body):
            assert b"hunter2" not in text
        assert_still_segments(client)


def assert_still_segments(client: Client) -> None:
    body = io.BytesIO()
    Image.new("RGB", (9, 9)).save(body, "png")
    assert client.ask("/segment", method="POST", body=body.getvalue()).status == 200
