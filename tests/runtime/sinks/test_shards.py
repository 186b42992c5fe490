"""Shards: their form, keys that are safe to unpack, and files that appear whole or not at all."""

from __future__ import annotations

import hashlib
import io
import tarfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fsspec.implementations.memory import MemoryFileSystem
from hypothesis import given
from hypothesis import strategies as st

from edgeunet.errors import OutputError, UsageError
from edgeunet.runtime.frames import Segmented, SourceFrame
from edgeunet.runtime.sinks.shards import Shard, ShardFolder, key_of
from support.archived import shard

PALETTE = ((0, 0, 0), (255, 0, 0))


def segmented(name: str, index: int = 0) -> Segmented:
    mask = np.zeros((4, 6), np.uint8)
    mask[0, : index + 1] = 1
    frame = SourceFrame(index, name, np.zeros((4, 6, 3), np.uint8))
    return Segmented(frame, mask, np.array([0.25, 1], np.float32))


def written(*frames: Segmented) -> bytes:
    file = io.BytesIO()
    made = Shard(file, classes=("none", "cell"), palette=PALETTE)
    for frame in frames:
        made.add(frame)
    assert made.finish() == hashlib.sha256(file.getvalue()).hexdigest()
    return file.getvalue()


@pytest.fixture(params=["local", "memory://out/masks"])
def where(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """A folder on disk, and one at an address."""
    yield str(tmp_path / "out") if request.param == "local" else request.param
    MemoryFileSystem.store.clear()


def test_a_shard_has_a_mask_and_a_record_of_each_frame(where: str, tmp_path: Path) -> None:
    folder = ShardFolder(where)
    with folder.writing("00000.tar") as file:
        made = Shard(file, classes=("none", "cell"), palette=PALETTE)
        for index, name in enumerate(("a/1.jpg", "b/1.jpg", "a/1.png", "a/1.left.png")):
            made.add(segmented(name, index))
        digest = made.finish()
    assert folder.names() == {"00000.tar"}
    content = folder._place.beside("masks/00000.tar" if "://" in where else "out/00000.tar").read(
        1 << 20
    )
    assert hashlib.sha256(content).hexdigest() == digest
    (tmp_path / "copy.tar").write_bytes(content)
    found = shard(tmp_path / "copy.tar")
    assert list(found) == ["a/1", "b/1", "a/1-2", "a/1_left"], "no key twice"
    mask, record = found["b/1"]
    np.testing.assert_array_equal(mask, segmented("", 1).mask)
    assert record == {
        "name": "b/1.jpg", "index": 1, "size": [4, 6], "presence": [0.25, 1.0],
        "shares": {"none": 0.916667, "cell": 0.083333},
    }  # fmt: skip
    assert (made.frames, made.pixels) == (4, {"none": 96 - 10, "cell": 10})


def test_a_shard_depends_on_its_frames_alone() -> None:
    one = written(segmented("a.png"))
    assert written(segmented("a.png")) == one
    assert written(segmented("b.png")) != one
    with tarfile.open(fileobj=io.BytesIO(one)) as file:
        assert {(each.mtime, each.uid, each.uname, each.mode) for each in file} == {
            (0, 0, "", 0o644)
        }


@given(
    st.text(max_size=300)
    | st.sampled_from(["../../etc/x.png", "C:\\x.png", "/a/b.png", "a/..", "漢/" + "😀" * 300])
)
def test_keys_are_safe_to_unpack_and_read(name: str) -> None:
    key = key_of(name, 7)
    parts = key.split("/")
    assert not {"", ".", ".."} & set(parts)
    assert "." not in parts[-1]
    assert key.isprintable()
    assert not set('\\:*?"<>|') & set(key)
    assert len(key.encode()) <= 1000
    assert max(len(part.encode()) for part in parts) <= 200, "most file systems take 255"


def test_what_fails_leaves_nothing(where: str) -> None:
    folder = ShardFolder(where)
    with suppress(RuntimeError), folder.writing("00000.tar") as file:
        file.write(b"half")
        raise RuntimeError
    with (
        pytest.raises(OutputError, match=r"00000\.tar cannot .*: No space left .* run again"),
        folder.writing("00000.tar"),
    ):
        raise OSError(28, "No space left on device")
    assert folder.names() == set()
    assert folder.read_json("none.json") is None
    folder.write_json("a.json", [1])
    folder.write_json("a.json", [2])
    assert folder.read_json("a.json") == [2]
    folder.remove(["a.json", "a.json"])
    assert folder.names() == set()


def test_a_file_system_that_shows_files_before_they_are_whole_gets_other_names(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("edgeunet.runtime.sinks.shards._WHOLE", ())
    seen: list[Any] = []
    opened = MemoryFileSystem.open

    def spy(self: Any, path: str, mode: str, **more: Any) -> Any:
        seen.append(path)
        return opened(self, path, mode, **more)

    monkeypatch.setattr(MemoryFileSystem, "open", spy)
    folder = ShardFolder("memory://out2")
    folder.write_json("a.json", 1)
    assert [path.endswith(".tmp") for path in seen] == [True]
    assert folder.read_json("a.json") == 1
    assert folder.names() == {"a.json"}
    MemoryFileSystem.store.clear()


def test_outputs_that_cannot_be(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match="is a file; expected a directory"):
        ShardFolder(tmp_path / "file")
    with pytest.raises(UsageError, match=r"\*\*\*@host/out: nothing is written over HTTP"):
        ShardFolder("https://me:secret@host/out")
    folder = ShardFolder(tmp_path)
    (tmp_path / "a.json").write_text("{")
    with pytest.raises(OutputError, match=r"a\.json is damaged"):
        folder.read_json("a.json")
    with folder.locked(), pytest.raises(OutputError, match="by another run"):  # noqa: SIM117
        with folder.locked():
            pass


def test_pages_and_frames_without_a_name_have_keys() -> None:
    assert key_of("a#b.png", 0) == "a#b"
    assert key_of("x/" + "y" * 300 + ".png", 0) == "x/" + "y" * 200
