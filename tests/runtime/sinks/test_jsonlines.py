"""Sinks for programs: JSON Lines with COCO's run lengths, raw pipes, functions."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from pycocotools import mask as coco

from edgeunet.errors import OutputError, OutputExistsError, SourceError, UsageError
from edgeunet.runtime.frames import Segmented
from edgeunet.runtime.sinks import JsonLines, RawPipe, open_sink, overlay
from edgeunet.runtime.sinks.pipe import mask_pixels, overlay_pixels
from edgeunet.runtime.sources import SourceFrame
from support.media import Frame

CLASSES = ("background", "cell", "film")
PALETTE = ((0, 0, 0), (255, 0, 0), (0, 0, 255))


def segmented(
    mask: Frame, *, index: int = 0, name: str = "", time: float | None = None
) -> Segmented:
    image = np.full((*mask.shape, 3), 100, np.uint8)
    return Segmented(SourceFrame(index, name, image, time), mask)


def lines(path: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


# JSON Lines


@given(
    mask=hnp.arrays(
        np.uint8,
        hnp.array_shapes(min_dims=2, max_dims=2, max_side=12),
        elements=st.sampled_from([0, 1, 2, 255]),
    )
)
def test_cocos_own_reader_gives_the_mask_back(
    mask: Frame, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("lines") / "out.jsonl"
    with JsonLines(path, classes=CLASSES) as sink:
        sink.write(segmented(mask))
    (record,) = lines(path)
    back = np.full(mask.shape, 77, np.uint8)
    for segment in record["segments"]:  # type: ignore[attr-defined]
        where = coco.decode(segment["segmentation"]).astype(bool)
        assert segment["area"] == where.sum()
        assert (back[where] == 77).all(), "two classes in one pixel"
        back[where] = segment["category_id"]
    np.testing.assert_array_equal(back, mask)


def test_line_tells_frame_time_gate_and_class_names(tmp_path: Path) -> None:
    mask = np.array([[0, 1], [1, 255]], np.uint8)
    frame = segmented(mask, index=7, name="a.png", time=0.28)
    with JsonLines(tmp_path / "out.jsonl", classes=CLASSES) as sink:
        sink.write(Segmented(frame.frame, mask, np.array([1, 0.25, 0], np.float32)))
        sink.write(segmented(mask, index=8))
    first, second = lines(tmp_path / "out.jsonl")
    assert {key: first[key] for key in ("frame", "name", "time", "presence")} == {
        "frame": 7, "name": "a.png", "time": 0.28, "presence": [1, 0.25, 0]
    }  # fmt: skip
    assert (second["frame"], second["time"], second["presence"]) == (8, None, None)
    segments = first["segments"]
    assert isinstance(segments, list)
    assert [(s["category_id"], s["category"], s["area"]) for s in segments] == [
        (0, "background", 1), (1, "cell", 2), (255, "", 1)
    ]  # fmt: skip


def test_line_is_there_as_soon_as_it_was_written(tmp_path: Path) -> None:
    with JsonLines(tmp_path / "new" / "out.jsonl", classes=CLASSES) as sink:
        for index in range(3):
            sink.write(segmented(np.zeros((4, 6), np.uint8), index=index))
            came = lines(tmp_path / "new" / "out.jsonl")
            assert [record["frame"] for record in came] == list(range(index + 1))


def test_what_stands_is_kept(tmp_path: Path) -> None:
    (tmp_path / "out.jsonl").write_text("old")
    with pytest.raises(OutputExistsError, match="--force"):
        JsonLines(tmp_path / "out.jsonl", classes=CLASSES)
    with pytest.raises(UsageError, match="is a directory; expected a file"):
        JsonLines(tmp_path, classes=CLASSES, force=True)
    assert (tmp_path / "out.jsonl").read_text() == "old"


FILL = """
import resource, signal, sys
from pathlib import Path
import numpy as np
from edgeunet.runtime.frames import Segmented
from edgeunet.runtime.sinks import JsonLines
from edgeunet.runtime.sources import SourceFrame
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]),) * 2)
image, mask = np.zeros((4, 6, 3), np.uint8), np.zeros((4, 6), np.uint8)
with JsonLines(Path(sys.argv[1]), classes=["background"]) as sink:
    for index in range(100):
        try:
            sink.write(Segmented(SourceFrame(index, "", image), mask))
        except OSError as error:
            print(index, error.strerror)
            break
"""


@pytest.mark.parametrize("size", [100, 1000, 1001])
def test_full_disk_leaves_whole_lines_and_is_told_of(tmp_path: Path, size: int) -> None:
    command = [sys.executable, "-c", FILL, str(tmp_path / "out.jsonl"), str(size)]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    content = (tmp_path / "out.jsonl").read_text()
    assert content == "" or content.endswith("\n")
    count = len(lines(tmp_path / "out.jsonl"))
    assert said == f"{count} File too large\n"


# Raw pipes


def test_pipe_holds_the_masks_and_nothing_else() -> None:
    masks = [np.random.default_rng(i).integers(0, 3, (5, 7), np.uint8) for i in range(3)]
    file = io.BytesIO()
    with RawPipe(file, mask_pixels) as sink:
        for mask in masks:
            sink.write(segmented(mask))
    np.testing.assert_array_equal(
        np.frombuffer(file.getvalue(), np.uint8).reshape(3, 5, 7), np.stack(masks)
    )


def test_pipe_takes_masks_that_are_views() -> None:
    mask = np.arange(12, dtype=np.uint8).reshape(3, 4).T
    file = io.BytesIO()
    RawPipe(file, mask_pixels).write(segmented(mask))
    assert file.getvalue() == mask.tobytes()


def test_pipe_of_overlays_has_the_colours() -> None:
    frame = segmented(np.array([[0, 1, 2]], np.uint8))
    file = io.BytesIO()
    RawPipe(file, overlay_pixels(PALETTE)).write(frame)
    assert file.getvalue() == overlay(frame.frame.image, frame.mask, PALETTE).tobytes()
    assert len(file.getvalue()) == 9


def test_pipe_refuses_a_change_of_size() -> None:
    file = io.BytesIO()
    sink = RawPipe(file, mask_pixels)
    sink.write(segmented(np.zeros((4, 6), np.uint8)))
    with pytest.raises(SourceError, match="frame size changed from 4x6 to 6x4"):
        sink.write(segmented(np.zeros((6, 4), np.uint8)))
    assert len(file.getvalue()) == 24


@pytest.mark.parametrize("output", ["pipe:masks", "pipe:overlay"])
def test_pipe_without_stdout_is_an_error(monkeypatch: pytest.MonkeyPatch, output: str) -> None:
    monkeypatch.setattr(sys, "stdout", None)  # what Python makes of a closed one
    with pytest.raises(OutputError, match="stdout is closed"):
        open_sink(output, rate=None, classes=[], palette=[])


@pytest.mark.parametrize(("output", "channels"), [("pipe:masks", 1), ("pipe:overlay", 3)])
def test_pipe_is_stdout(
    output: str, channels: int, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    with open_sink(output, rate=None, classes=CLASSES, palette=PALETTE) as sink:
        sink.write(segmented(np.zeros((4, 6), np.uint8)))
    assert len(capfdbinary.readouterr().out) == 24 * channels


# Functions


def test_function_gets_what_came_out() -> None:
    came: list[Segmented] = []
    frames = [segmented(np.full((4, 6), index, np.uint8), index=index) for index in range(3)]
    with open_sink(came.append, rate=None, classes=CLASSES, palette=PALETTE) as sink:
        for frame in frames:
            sink.write(frame)
    assert all(one is other for one, other in zip(came, frames, strict=True))
