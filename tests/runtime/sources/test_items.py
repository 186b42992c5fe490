"""How an input is listed and cut into units of work."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgeunet.errors import SourceError, UsageError
from edgeunet.runtime.frames import Ignored
from edgeunet.runtime.sources import items
from edgeunet.runtime.sources.items import list_items
from support.archived import flat, folder_of, table_of, tar_of, zip_of
from support.media import write_video

IMAGES = {f"{number}.png": flat(number) for number in (10, 9, 1)}


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_every_input_is_cut_the_same_way_in_natural_order(folder: Path) -> None:
    folder_of(folder / "f", {**IMAGES, ".1.png": b"", "a.txt": b""})
    (folder / "f" / "more").mkdir()
    tar_of(folder / "a.tar", {**IMAGES, "a.txt": b""})
    zip_of(folder / "a.zip", IMAGES)
    (folder / "list.txt").write_text("f/1.png\n# none\n\nf/9.png\r\nf/10.png\n")
    names = [("1.png", "9.png"), ("10.png",)]
    for source, kind, ignored in [
        ("f", "files", Ignored(hidden=1, other=2)),
        ("f/*.png", "files", Ignored()),
        ("list.txt", "files", Ignored()),
        ("a.tar", "members", Ignored(other=1)),
        (folder / "a.zip", "members", Ignored()),
    ]:
        found = list_items(source, size=2)
        assert [unit.names for unit in found.units] == names, source
        assert {unit.kind for unit in found.units} == {kind}
        assert (found.images, found.ignored) == (3, ignored)
        assert found.units == list_items([source], size=2).units
    table_of(folder / "a.parquet", png=list(IMAGES.values()) * 3, group=2)
    tables = list_items("a.parquet", size=3)
    assert [(unit.start, unit.stop, unit.images) for unit in tables.units] == [
        (0, 2, 4), (2, 4, 4), (4, 5, 1),
    ]  # fmt: skip


def test_archives_that_are_many_or_compressed_are_a_unit_each(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So that a plan for a billion images lists archives alone."""
    sources = [tar_of(folder / f"{number}.tar", IMAGES) for number in (10, 9)]
    sources.append(tar_of(folder / "1.tgz", IMAGES))
    found = list_items([*sources, sources[0].parent], size=2)
    assert [unit.kind for unit in found.units][:5] == ["members"] * 4 + ["whole"]
    assert found.images is None
    monkeypatch.setattr(items, "MOST_OPENED", 2)
    monkeypatch.setattr(items, "open_archive", lambda place: pytest.fail("it was opened"))
    found = list_items(folder)
    assert [Path(unit.where).name for unit in found.units] == ["1.tgz", "9.tar", "10.tar"]
    assert all(unit.kind == "whole" and unit.stamp for unit in found.units)


def test_a_damaged_archive_among_others_is_a_unit(folder: Path) -> None:
    (folder / "bad.tar").write_bytes(b"none")
    tar_of(folder / "good.tar", IMAGES)
    assert [unit.kind for unit in list_items("*.tar").units] == ["whole", "members"]
    with pytest.raises(SourceError, match=r"bad\.tar cannot be read as an archive"):
        list_items("bad.tar")


def test_what_is_refused(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder_of(folder / "f", IMAGES)
    write_video(folder / "a.mp4", 2)
    (folder / "list.txt").write_text("f/1.png\nrtsp://me:secret@host/main\n")
    (folder / "films.txt").write_text("a.mp4\n")
    (folder / "empty.txt").write_text("# none\n")
    (folder / "bytes.txt").write_bytes(b"f/1.png\n\xff\n")
    folder_of(folder / "other", {"a.csv": b""})
    (folder / "a.csv").touch()
    (folder / "a.mcap").touch()
    for source, words in {
        "none": "none does not exist",
        "a.mp4": "is a video, which one worker reads. Run it without --workers",
        "*.mp4": "is a video",
        "a.mcap": "is a bag, which one worker reads. Run it without --workers",
        "list.txt": r"list\.txt, line 2: rtsp://\*\*\*@host/main is a camera",
        "films.txt": r"films\.txt, line 1: .*a\.mp4 is a video",
        "empty.txt": "has no line",
        "bytes.txt": r"is no UTF-8 \(at byte 8\)",
        "other": "holds no image, archive or table, but 1 other files",
        "*.none": "matches no image, archive or table",
        "a.csv": "is neither a folder, an image nor one of",
    }.items():
        with pytest.raises((SourceError, UsageError), match=words) as caught:
            list_items(source)
        assert "secret" not in str(caught.value)
    with pytest.raises(UsageError, match="--column names a column of Parquet tables"):
        list_items("f", column="image")
    monkeypatch.setattr(items, "MOST_IMAGES", 2)
    with pytest.raises(SourceError, match=r"lists 3 images one by one; .* Pack them in tar"):
        list_items("f")
