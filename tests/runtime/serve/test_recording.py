"""Recordings: films beside the stream, by the route and by themselves."""

from __future__ import annotations

import errno
import shutil
import signal
import threading
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

from edgeunet.data.cells import PALETTE
from edgeunet.errors import OutputError, UsageError
from edgeunet.runtime.frames import Segmented
from edgeunet.runtime.serve import recording as module
from edgeunet.runtime.serve.recording import Recordings
from edgeunet.runtime.sinks.video import VideoWriter
from edgeunet.runtime.sources import SourceFrame
from support.media import decode, write_video
from support.serving import connect, process, segmented, wait_for

RATE = Fraction(10)
HIDDEN = ".edgeunet-"


def films(folder: Path) -> list[Path]:
    """The films in a folder, in which there is nothing else."""
    found = sorted(folder.iterdir())
    assert [path.suffix for path in found] == [".mp4"] * len(found), found
    return found


def frame(index: int, size: tuple[int, int] = (32, 48), *, time: float | None = None) -> Segmented:
    made = segmented(index, size)
    seconds = index / 10 if time is None else time
    shown = SourceFrame(index, "", made.frame.image, time=seconds, source="a")
    return Segmented(shown, made.mask)


def record(recordings: Recordings, frames: list[Segmented]) -> dict[str, Any]:
    """Offer frames, none faster than it is written; the report at the end."""
    for count, each in enumerate(frames, 1):
        recordings.offer(each)
        wait_for(
            lambda count=count: (
                recordings.report()["a"]["frames"] == count  # type: ignore[misc]
                or not recordings.report()["a"]["active"]
            )
        )
    if recordings.report()["a"]["active"]:
        recordings.stop("a").join(10)
    wait_for(lambda: recordings.ended)
    return recordings.report()["a"]


@pytest.mark.parametrize("kind", ["overlay", "mask"])
def test_film_has_the_frames_and_their_times(tmp_path: Path, kind: Any) -> None:
    with Recordings(tmp_path, PALETTE) as recordings:
        recordings.start("a", kind, rate=RATE)
        report = record(recordings, [frame(index, time=3600 + index / 5) for index in range(5)])
    (film,) = films(tmp_path)
    assert film.name.startswith(f"a-{kind}-2")
    assert (report["file"], report["frames"], report["dropped"]) == (film.name, 5, 0)
    pictures, rate = decode(film)
    assert rate == Fraction(5, 1) / Fraction(9, 10), "the last frame lasts as the rate says"
    if kind == "mask":
        for index, picture in enumerate(pictures):
            assert np.abs(picture.astype(int) - PALETTE[index % 3]).mean() < 12


def test_new_files_follow_and_none_is_overwritten(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A camera that comes back in another size, and a part that is long enough."""
    monkeypatch.setattr(module, "PART", 0.35)
    with Recordings(tmp_path / "films", PALETTE) as recordings:
        for _ in range(2):
            recordings.start("a", "mask", rate=RATE)
            report = record(
                recordings, [*map(frame, range(5)), *(frame(5 + n, (16, 16)) for n in range(2))]
            )
            assert report["files"] == 3
            assert report["seconds"] == pytest.approx(0.4, abs=0.11)
    counts = sorted(len(decode(film)[0]) for film in films(tmp_path / "films"))
    assert counts == [1, 1, 2, 2, 4, 4], "of six files"


def test_any_names_have_films_of_their_own(tmp_path: Path) -> None:
    names = ["a b", "a/b", "../a", "\N{SNOWMAN}" * 85, "\N{SNOWMAN}" * 86]
    with Recordings(tmp_path / "films", PALETTE) as recordings:
        for name in names:
            recordings.start(name, "mask", rate=RATE)
        for name in names:
            made = frame(0)
            recordings.offer(Segmented(replace(made.frame, source=name), made.mask))
    reports = recordings.report()
    assert [reports[name]["error"] for name in names] == [None] * len(names)
    assert len({reports[name]["file"] for name in names}) == len(films(tmp_path / "films")) == 5


def test_slow_encoder_drops_frames_and_holds_up_nobody(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, go_on = threading.Event(), threading.Event()
    write = VideoWriter.write

    def slowly(self: VideoWriter, *picture: Any, **more: Any) -> None:
        begun.set()
        assert go_on.wait(20)
        write(self, *picture, **more)

    monkeypatch.setattr(VideoWriter, "write", slowly)
    with Recordings(tmp_path, PALETTE) as recordings:
        recordings.start("a", "mask", rate=RATE)
        recordings.offer(frame(0))
        assert begun.wait(10)
        for index in range(1, 51):
            recordings.offer(frame(index))
        go_on.set()
        recordings.stop("a").join(10)
        report = recordings.report()["a"]
        go_on.clear(), begun.clear()
        for _ in range(2):  # the first is still being finished when the second begins
            recordings.start("a", "mask", rate=RATE)
            recordings.offer(frame(0))
            recordings.stop("a")
        assert begun.wait(10) and not recordings.ended
        go_on.set()
    assert report["frames"] + report["dropped"] == 51
    assert report["frames"] == 9, "that which was written, and those that waited"
    assert sorted(len(decode(film)[0]) for film in films(tmp_path)) == [1, 1, 9]


class Usage(NamedTuple):
    free: int


def test_disk_that_fills_up_ends_the_recording_with_a_whole_film(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    left = iter([module.RESERVE] * 4)  # asked at the start, and for each frame
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: Usage(next(left, 5_000_000)))
    with Recordings(tmp_path, PALETTE) as recordings:
        recordings.start("a", "mask", rate=RATE)
        report = record(recordings, [frame(index) for index in range(9)])
        assert (report["active"], report["frames"]) == (False, 3)
        assert "has 5 MB left" in report["error"]
        assert len(decode(films(tmp_path)[0])[0]) == 3
        with pytest.raises(OutputError, match="5 MB left"):
            recordings.start("a", "mask", rate=RATE)


def test_failing_disk_leaves_nothing_half_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(self: VideoWriter) -> None:
        with self._stack:
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(VideoWriter, "close", fails)
    with Recordings(tmp_path, PALETTE) as recordings:
        recordings.start("a", "mask", rate=RATE)
        report = record(recordings, [frame(0), frame(1)])
    assert report["error"] == "the recording ended: No space left on device"
    assert report["file"] is None
    assert films(tmp_path) == []


@pytest.mark.parametrize("place", [__file__, f"{__file__}/films", "/proc", "/proc/films"])
def test_folder_that_cannot_be_written_is_refused(place: str) -> None:
    with pytest.raises((UsageError, OutputError)):
        Recordings(Path(place), PALETTE)


def test_folder_that_is_gone_is_told(tmp_path: Path) -> None:
    folder = tmp_path / "films"
    with Recordings(folder, PALETTE) as recordings:
        folder.rmdir()
        with pytest.raises(OutputError, match=r"folder films .*No such file.* Make it again"):
            recordings.start("a", "mask", rate=RATE)
        folder.mkdir()
        recordings.start("a", "mask", rate=RATE)
        folder.rmdir()
        assert "No such file" in record(recordings, [frame(0)])["error"]


# The end of the server


def test_signal_finishes_the_film_and_a_kill_leaves_none(fp32_bundle: Path, tmp_path: Path) -> None:
    film = write_video(tmp_path / "film.mp4")
    for number, count in ((signal.SIGTERM, 1), (signal.SIGKILL, 0)):
        folder = tmp_path / number.name
        with process(fp32_bundle, film, "--record", folder) as (running, url):
            connection = connect(url)
            connection.request("POST", "/record?action=start")
            connection.getresponse().read()
            wait_for(lambda folder=folder: any(folder.iterdir()))  # type: ignore[misc]
            running.send_signal(number)
            running.wait(15)
            connection.close()
        assert len(list(folder.glob("*.mp4"))) == count
    left = [path.name for path in folder.iterdir()]
    assert all(name.startswith((HIDDEN, ".film")) for name in left), left
    with Recordings(folder, PALETTE) as recordings:  # the next one removes what the kill left
        recordings.start("a", "mask", rate=RATE)
        record(recordings, [frame(0)])
    assert not list(folder.glob(f"{HIDDEN}*"))
