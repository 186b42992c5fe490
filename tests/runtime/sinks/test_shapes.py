"""COCO's JSON, tables of regions, and directories with a file for each source."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import tracemalloc
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pycocotools.coco import COCO

from edgeunet.errors import OutputError, OutputExistsError
from edgeunet.runtime.sinks import CocoFile, RegionTable, open_sink
from edgeunet.runtime.sinks.shapes import COLUMNS
from support.masks import CLASSES, LEGEND, PALETTE, names, segmented
from support.media import Frame


def blobs(seed: int = 0) -> Frame:
    """A mask (16, 24) with regions of three classes."""
    small = np.random.default_rng(seed).integers(0, 3, (4, 6)).astype(np.uint8)
    return np.kron(small, np.ones((4, 4), np.uint8))


def loaded(path: Path) -> COCO:
    with redirect_stdout(StringIO()):
        return COCO(str(path))


def table(path: Path) -> list[dict[str, Any]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_pycocotools_loads_the_file_and_gives_the_masks_back(tmp_path: Path) -> None:
    frames = [
        segmented(blobs(seed), index=2 * seed, name=name, time=time)
        for seed, (name, time) in enumerate([("a.png", None), ('ü".png', None), ("", 0.5)])
    ]
    with CocoFile(tmp_path / "out.json", legend=LEGEND, video="clip.mp4") as sink:
        for each in frames:
            sink.write(each)
        assert names(tmp_path)[-1] != "out.json", "not before it is whole"
    coco = loaded(tmp_path / "out.json")
    records = coco.loadImgs([1, 2, 3])
    assert [(each["file_name"], each["frame"], each.get("time")) for each in records] == [
        ("a.png", 0, None), ('ü".png', 2, None), ("clip.mp4#5", 4, 0.5)
    ]  # fmt: skip
    for number, each in enumerate(frames, 1):
        back = np.zeros(each.mask.shape, np.uint8)
        for annotation in coco.loadAnns(coco.getAnnIds(number)):
            back[coco.annToMask(annotation).astype(bool)] = annotation["category_id"]
        np.testing.assert_array_equal(back, each.mask)
    assert names(tmp_path) == ["out.json"]


def test_file_without_a_frame_is_not_written(tmp_path: Path) -> None:
    CocoFile(tmp_path / "out.json", legend=LEGEND).close()
    assert names(tmp_path) == []


def test_what_stands_is_kept_until_the_new_file_is_whole(tmp_path: Path) -> None:
    (tmp_path / "out.json").write_text("old")
    with pytest.raises(OutputExistsError, match="--force"):
        CocoFile(tmp_path / "out.json", legend=LEGEND)
    with CocoFile(tmp_path / "out.json", legend=LEGEND, force=True) as sink:
        sink.write(segmented(blobs()))
        assert (tmp_path / "out.json").read_text() == "old"
        with pytest.raises(OutputError, match="written by another run"):
            CocoFile(tmp_path / "out.json", legend=LEGEND, force=True)
    assert loaded(tmp_path / "out.json").getImgIds() == [1]


WRITE = """
import os, resource, signal, sys
from pathlib import Path
import numpy as np
from edgeunet.runtime.sinks import CocoFile
from support.masks import LEGEND, segmented
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]),) * 2)
mask = np.random.default_rng(0).integers(0, 3, (64, 64)).astype(np.uint8)
try:
    with CocoFile(Path(sys.argv[1]), legend=LEGEND, force=True) as sink:
        for index in range(60):
            sink.write(segmented(mask, index=index))
        if sys.argv[3] == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
except OSError as error:
    print(error.strerror)
"""


@pytest.mark.parametrize(
    ("limit", "end", "code", "said"),
    [(10**7, "kill", -signal.SIGKILL, ""), (10**5, "full", 0, "File too large\n")],
)
def test_kill_or_full_disk_leaves_the_old_file(
    tmp_path: Path, limit: int, end: str, code: int, said: str
) -> None:
    path = tmp_path / "out.json"
    path.write_text("old")
    command = [sys.executable, "-c", WRITE, str(path), str(limit), end]
    paths = os.pathsep.join(sys.path)
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": paths},
    )
    assert (done.returncode, done.stdout) == (code, said), done.stderr
    assert path.read_text() == "old"
    with CocoFile(path, legend=LEGEND, force=True) as sink:  # and sweeps what the kill left
        sink.write(segmented(blobs()))
    assert names(tmp_path) == ["out.json"]
    assert loaded(path).getImgIds() == [1]


@pytest.mark.parametrize("kind", [CocoFile, RegionTable])
def test_memory_does_not_grow_with_the_annotations(
    tmp_path: Path, kind: type[CocoFile | RegionTable]
) -> None:
    mask = np.random.default_rng(0).integers(0, 3, (24, 48)).astype(np.uint8)
    with kind(tmp_path / "out", legend=LEGEND) as sink:
        sink.write(segmented(mask))
        tracemalloc.start()
        for index in range(30):
            sink.write(segmented(mask, index=index))
        held, _ = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert (tmp_path / "out").stat().st_size > 80_000
    assert held < 40_000


def test_table_has_a_line_for_each_region(tmp_path: Path) -> None:
    mask = np.array([[0, 1, 1, 0], [2, 0, 0, 1]], np.uint8)
    with RegionTable(tmp_path / "out.csv", legend=LEGEND) as sink:
        sink.write(segmented(mask, index=7, name='a, "b".png', time=0.28))
        sink.write(segmented(np.zeros((2, 4), np.uint8), index=8))
    rows = table(tmp_path / "out.csv")
    assert list(rows[0]) == list(COLUMNS)
    assert [list(row.values()) for row in rows] == [
        ["7", 'a, "b".png', "0.28", "1", "cell", "3", "1", "0", "3", "2", "2.5", "0.83", ""],
        ["7", 'a, "b".png', "0.28", "2", "film", "1", "0", "1", "1", "1", "0.5", "1.5", ""],
    ]


def read_names(path: Path) -> list[tuple[int, str]]:
    """Number and name of the frames in a file of any format."""
    if path.suffix == ".json":
        return [(each["frame"], each["file_name"]) for each in loaded(path).dataset["images"]]
    if path.suffix == ".csv":
        return sorted({(int(row["frame"]), row["name"]) for row in table(path)})
    records = [json.loads(line) for line in path.read_text().splitlines()]
    return [(record["frame"], record["name"]) for record in records]


@pytest.mark.parametrize(("sources", "name"), [(["dir/x.mp4"], "x.csv"), ([], "images.csv")])
def test_directory_has_a_file_of_the_name_of_its_source(
    tmp_path: Path, sources: list[str], name: str
) -> None:
    out = tmp_path / "out"
    with open_sink(
        str(out), rate=None, classes=CLASSES, palette=PALETTE,
        sources=map(Path, sources), format="csv",
    ) as sink:  # fmt: skip
        for index in range(2):
            sink.write(segmented(blobs(), index=index, time=5.0 + index))
    rows = table(out / name)
    assert {(row["frame"], row["time"]) for row in rows} == {("0", "5.0"), ("1", "6.0")}
