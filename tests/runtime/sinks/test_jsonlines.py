"""Sinks for programs: JSON Lines with COCO's run lengths, raw pipes, functions."""

from __future__ import annotations

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

from edgeunet.errors import OutputExistsError, UsageError
from edgeunet.runtime.frames import Segmented
from edgeunet.runtime.sinks import JsonLines
from support.masks import CLASSES, segmented
from support.media import Frame


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
