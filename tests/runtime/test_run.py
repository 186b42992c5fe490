"""`run`: its functions, errors and signals."""

from __future__ import annotations

import json
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Generator
from pathlib import Path

import cv2
import numpy as np
import pytest
import tifffile

from edgeunet.data.images import read_ids, read_picture
from edgeunet.errors import IncompleteError, SourceError
from edgeunet.runtime.frames import Segmented
from edgeunet.runtime.run import RunSummary, run
from edgeunet.runtime.sinks import OverlayVideo
from edgeunet.runtime.sources import Source, SourceFrame, SourceInfo
from support.commands import fails, finish, names, start, visible
from support.media import VIDEO_SIZE, decode, write_video

FRAMES = 3000  # of a film that nobody waits for


# Outputs


def test_run_calls_a_function(fp32_bundle: Path, images: Path) -> None:
    came: list[Segmented] = []
    summary = run(fp32_bundle, images, came.append)
    assert [segmented.frame.name for segmented in came] == [f"{index}.png" for index in range(5)]
    assert summary.frames == 5


def test_masks_of_geotiffs_keep_their_georeference(
    fp32_bundle: Path, images: Path, tmp_path: Path
) -> None:
    tags = {
        33550: (12, (0.5, 0.5, 0.0)),
        33922: (12, (0.0, 0.0, 0.0, 412345.5, 5412345.25, 0.0)),
        34735: (3, (1, 1, 0, 1, 3072, 0, 1, 32633)),
    }
    tifffile.imwrite(
        tmp_path / "field.tif",
        read_picture(images / "0.png").pixels,
        photometric="rgb",
        extratags=[(tag, kind, len(values), values, True) for tag, (kind, values) in tags.items()],
    )
    run(fp32_bundle, tmp_path / "field.tif", str(tmp_path / "out"))
    run(fp32_bundle, images / "0.png", str(tmp_path / "plain"))
    with tifffile.TiffFile(tmp_path / "out" / "field.tif") as mask:
        found = mask.pages[0].tags
        assert {tag: found[tag].value for tag in tags} == {tag: tags[tag][1] for tag in tags}
    expected = read_ids(tmp_path / "plain" / "0.png")
    np.testing.assert_array_equal(read_ids(tmp_path / "out" / "field.tif"), expected)


def test_error_of_the_function_is_the_callers(fp32_bundle: Path, images: Path) -> None:
    fault = FileNotFoundError("mine")

    def fail(segmented: Segmented) -> None:
        raise fault

    with pytest.raises(FileNotFoundError) as raised:
        run(fp32_bundle, images, fail)
    assert raised.value is fault


def test_file_is_never_dropped(fp32_bundle: Path, images: Path) -> None:
    message = fails(2, "run", fp32_bundle, images, "--drop", "oldest")
    assert "files are read in full" in message


# Ends


def test_image_that_the_net_does_not_take_is_named_and_the_others_are_done(
    fp32_bundle: Path, images: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    images = Path(shutil.copytree(images, tmp_path / "images"))
    cv2.imwrite(str(images / "2b.tiff"), np.zeros((32, 48), np.float32))
    came: list[str] = []
    told = r"1 of 6 images cannot be read; .*2b\.tiff is float32.*--levels"
    with pytest.raises(IncompleteError, match=told):
        run(fp32_bundle, images, lambda segmented: came.append(segmented.frame.name))
    assert came == [f"{index}.png" for index in range(5)]
    assert any("2b.tiff is float32" in message for message in caplog.messages)
    skipping = run(fp32_bundle, images, "-", skip_damaged=True)
    assert (skipping.frames, len(skipping.damaged)) == (5, 1)


def test_source_that_fails_raises_with_the_summary_of_what_was_done(
    fp32_bundle: Path, images: Path, tmp_path: Path
) -> None:
    (tmp_path / "bad.png").write_bytes(b"none")
    came: list[Segmented] = []
    with pytest.raises(IncompleteError, match="1 of 2 sources failed") as told:
        run(fp32_bundle, [images, tmp_path / "bad.png"], came.append)
    summary = told.value.summary
    assert isinstance(summary, RunSummary)
    assert summary.frames == len(came) == 5
    assert isinstance(told.value.__cause__, SourceError)


class Gone(Source):
    """A camera whose connection breaks."""

    info = SourceInfo(0, None, live=True)

    def _read(self) -> Generator[SourceFrame, None, None]:
        yield SourceFrame(0, "", np.zeros((64, 96, 3), np.uint8))
        raise ConnectionResetError("Connection reset by peer")


def test_error_of_the_source_is_not_blamed_on_the_output(fp32_bundle: Path, tmp_path: Path) -> None:
    with pytest.raises(ConnectionResetError):
        run(fp32_bundle, Gone(), str(tmp_path / "masks"))
    assert visible(tmp_path / "masks") == ["000000.png"]


# Several sources


def files_of(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*.png"))
    }


def test_eight_films_at_once_are_those_of_each_alone(fp32_bundle: Path, tmp_path: Path) -> None:
    films = [
        write_video(
            tmp_path / f"{number}.mp4",
            3 + number % 3,
            size=(64 + 16 * (number % 3), 96),
            first=number,
        )
        for number in range(8)
    ]
    summary = run(fp32_bundle, films, str(tmp_path / "all"))
    together, alone = files_of(tmp_path / "all"), {}
    for film in films:
        run(fp32_bundle, film, str(tmp_path / film.stem))
        one = files_of(tmp_path / film.stem)
        alone.update({f"{film.stem}/{name}": content for name, content in one.items()})
    assert together == alone
    assert len(set(alone.values())) > len(alone) / 2, "the films are the same"
    sources = summary.stream.sources
    assert {name: each.segmented for name, each in sources.items()} == {
        str(number): 3 + number % 3 for number in range(8)
    }
    assert summary.frames == len(alone)
    assert summary.stream.fairness == pytest.approx(1)


class Slow(Source):
    """Two frames, and a long time between them."""

    info = SourceInfo(2, None)

    def __init__(self, seconds: float) -> None:
        super().__init__()
        self._seconds = seconds

    def _read(self) -> Generator[SourceFrame, None, None]:
        yield SourceFrame(0, "", np.zeros((64, 96, 3), np.uint8))
        time.sleep(self._seconds)
        yield SourceFrame(1, "", np.zeros((64, 96, 3), np.uint8))


def test_slow_and_broken_sources_hold_up_no_other(fp32_bundle: Path, tmp_path: Path) -> None:
    times: dict[tuple[str, int], float] = {}

    def note(segmented: Segmented) -> None:
        times[segmented.source, segmented.frame.index] = time.monotonic()

    film = write_video(tmp_path / "film.mp4", 12, size=(80, 64))
    with pytest.raises(IncompleteError) as told:
        run(fp32_bundle, {"slow": Slow(3), "gone": Gone(), "film": film}, note)
    assert str(told.value) == (
        "1 of 3 sources failed; the others are done. The first: gone: ConnectionResetError: "
        "Connection reset by peer"
    )
    film_frames = [("film", index) for index in range(12)]
    assert set(times) == {*film_frames, ("gone", 0), ("slow", 0), ("slow", 1)}
    # The others are done long before the slow one goes on.
    others = [at for (source, _), at in times.items() if source != "slow"]
    assert times["slow", 1] - max(others) > 1
    summary = told.value.summary
    assert isinstance(summary, RunSummary)
    sources = summary.stream.sources
    assert [each.segmented for each in sources.values()] == [2, 1, 12]
    assert sources["gone"].error == "ConnectionResetError: Connection reset by peer"
    assert [each.whole for each in sources.values()] == [True, False, True]
    assert 0 < sources["film"].latency_p50 <= sources["film"].latency_p99


def test_source_that_cannot_be_written_ends_alone(fp32_bundle: Path, tmp_path: Path) -> None:
    sizes = tmp_path / "sizes"
    sizes.mkdir()
    for index, height in enumerate((64, 64, 80)):
        cv2.imwrite(str(sizes / f"{index}.png"), np.full((height, 96, 3), 90, np.uint8))
    film = write_video(tmp_path / "film.mp4", 9)
    with pytest.raises(IncompleteError, match=r"1 of 2 .*: sizes: frame size changed") as told:
        run(fp32_bundle, [sizes, film], str(tmp_path / "{source}-out.mp4"))
    assert len(decode(tmp_path / "film-out.mp4")[0]) == 9
    assert len(decode(tmp_path / "sizes-out.mp4")[0]) == 2
    assert isinstance(told.value.summary, RunSummary)
    assert told.value.summary.frames == 11


def test_all_lost_ends_the_run(fp32_bundle: Path, tmp_path: Path) -> None:
    with pytest.raises(IncompleteError, match=r"^2 of 2 sources failed\. The first: a: Conn"):
        run(fp32_bundle, {"a": Gone(), "b": Gone()}, str(tmp_path / "masks"))
    assert visible(tmp_path / "masks") == ["a", "b"]


def test_signal_while_the_video_is_closed_leaves_it_whole(
    fp32_bundle: Path, images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    close = OverlayVideo.close

    def interrupted(sink: OverlayVideo) -> None:
        signal.raise_signal(signal.SIGTERM)
        close(sink)

    monkeypatch.setattr(OverlayVideo, "close", interrupted)
    assert run(fp32_bundle, images, str(tmp_path / "out.mp4")).frames == 5
    assert len(decode(tmp_path / "out.mp4")[0]) == 5


@pytest.fixture(scope="module")
def long_film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A film that takes long enough to be interrupted."""
    path = tmp_path_factory.mktemp("film") / "film.mp4"
    return write_video(path, FRAMES, size=VIDEO_SIZE)


def wait_for(path: Path, process: subprocess.Popen[str], size: int) -> None:
    """Until a file of that many bytes is there."""
    ends = time.monotonic() + 60
    while process.poll() is None and time.monotonic() < ends:
        if any(file.stat().st_size >= size for file in path.parent.glob(path.name)):
            return
        time.sleep(0.02)
    pytest.fail(f"nothing was written: {finish(process)}")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signal_finishes_the_video(
    fp32_bundle: Path, long_film: Path, tmp_path: Path, number: signal.Signals
) -> None:
    process = start("run", fp32_bundle, long_film, "-o", tmp_path / "out.mp4", "--json")
    wait_for(tmp_path / ".edgeunet-*.tmp", process, 1)
    time.sleep(0.3)  # into the frames
    process.send_signal(number)
    code, out, err = finish(process)
    assert (code, "Traceback" in err) == (1, False), err
    summary = json.loads(out)
    assert re.search(rf"stopped by a signal after {summary['frames']} frames", err)
    assert names(tmp_path) == ["out.mp4"]
    pictures, _ = decode(tmp_path / "out.mp4")
    assert 0 < len(pictures) == summary["frames"] < FRAMES
    assert summary["stopped"]
    stream = summary["stream"]
    assert stream["read"] == stream["segmented"] == summary["frames"]
