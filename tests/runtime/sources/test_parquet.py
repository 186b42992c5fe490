"""Images in Parquet tables: which column, which names, and hostile files."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from edgeunet.errors import SourceError, UsageError
from edgeunet.runtime.sources import parquet
from edgeunet.runtime.sources.parquet import ParquetImages
from edgeunet.runtime.sources.places import Place
from support.archived import flat, table_of

IMAGES = [flat(value) for value in range(5)]


def opened(path: Path, column: str | None = None) -> ParquetImages:
    return ParquetImages(Place.of(path), column)


def test_bytes_and_hugging_faces_structs_are_images(tmp_path: Path) -> None:
    path = table_of(tmp_path / "a.parquet", label=[1] * 5, png=IMAGES)
    with opened(path) as table:
        assert (table.column, table.rows) == ("png", [2, 2, 1])
        images = table.images(1, 3)
        assert [image.name for image in images] == ["a/00000002", "a/00000003", "a/00000004"]
        assert [image.read() for image in images] == IMAGES[2:]
    structs = [{"bytes": each, "path": f"x/{row}.png"} for row, each in enumerate(IMAGES)]
    structs[1]["path"] = None  # type: ignore[assignment]
    structs[3] = {"bytes": None, "path": "/etc/passwd.png"}  # type: ignore[dict-item]
    with opened(table_of(tmp_path / "b.parquet", image=structs, group=3)) as table:
        images = table.images()
        assert [image.name for image in images[:2]] == ["x/0.png", "b/00000001"]
        assert [image.read() for image in images[:3]] == IMAGES[:3]
        with pytest.raises(SourceError, match=r"row 3 \(/etc/passwd.png\) has no bytes"):
            images[3].read()
        assert images[4].read() == IMAGES[4]


def test_the_column_is_found_or_asked_for(tmp_path: Path) -> None:
    two = table_of(tmp_path / "two.parquet", left=IMAGES, right=IMAGES[::-1])
    with pytest.raises(UsageError, match=r"several columns of bytes: left, right\. Choose .*--c"):
        opened(two)
    with opened(two, "right") as table:
        assert table.images()[0].read() == IMAGES[-1]
    with pytest.raises(UsageError, match=r"'middle' is none; expected .* among: left, right"):
        opened(two, "middle")
    numbers = table_of(tmp_path / "none.parquet", label=[1, 2])
    with pytest.raises(SourceError, match=r"no column of encoded images; .* among: label"):
        opened(numbers)
    with pytest.raises(UsageError, match="'label' is int64"):
        opened(numbers, "label")


def test_names_of_columns_may_hold_dots_and_begin_alike(tmp_path: Path) -> None:
    structs = [{"bytes": each, "path": "x.png"} for each in IMAGES]
    path = table_of(
        tmp_path / "a.parquet", **{"a.b": IMAGES[::-1], "a": structs, "a.bytes": IMAGES}
    )
    for column, wanted in (("a.b", IMAGES[::-1]), ("a", IMAGES), ("a.bytes", IMAGES)):
        with opened(path, column) as table:
            assert [image.read() for image in table.images()] == wanted


def test_damage_costs_its_row_group_alone(tmp_path: Path) -> None:
    path = table_of(tmp_path / "a.parquet", png=IMAGES)
    content = bytearray(path.read_bytes())
    at = pq.read_metadata(path).row_group(1).column(0).data_page_offset
    content[at : at + 40] = b"\xff" * 40
    path.write_bytes(content)
    with opened(path) as table:
        images = table.images()
        assert [image.read() for image in images[:2]] == IMAGES[:2]
        for image in images[2:4]:
            with pytest.raises(SourceError, match=r"a\.parquet:row [23] cannot be read: "):
                image.read()
        assert images[4].read() == IMAGES[4]
    path.write_bytes(b"none")
    with pytest.raises(SourceError, match="cannot be read as Parquet"):
        opened(path)


def test_bombs_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"png": [bytes(3_000_000)]}), path, compression="zstd")
    monkeypatch.setattr(parquet, "ANY_GROWTH", 1 << 20)
    with opened(path) as table, pytest.raises(SourceError, match=r"unpacks .* bytes to 3"):
        table.images()[0].read()
    monkeypatch.setattr(parquet, "ANY_GROWTH", 1 << 30)
    monkeypatch.setattr(parquet, "LARGEST_MEMBER", 1 << 20)
    with opened(path) as table, pytest.raises(SourceError, match="has 3000000 bytes; an image"):
        table.images()[0].read()


def test_nothing_in_a_table_is_unpickled(tmp_path: Path) -> None:
    """Ray registers types of columns that hold pickles; such a column holds no images here."""
    pytest.importorskip("ray.data", reason="Ray's types are not there without it")
    kind = pa.binary()
    field = pa.field(
        "image",
        kind,
        metadata={
            "ARROW:extension:name": "ray.data.arrow_pickled_object",
            "ARROW:extension:metadata": "",
        },
    )
    schema = pa.schema([field])
    harm = f"cbuiltins\nopen\n(S'{tmp_path}/harm'\nS'w'\ntR.".encode()
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table([pa.array([harm], kind)], schema=schema), path)
    with pytest.raises((SourceError, UsageError)):
        opened(path)
    with pytest.raises((SourceError, UsageError)):
        opened(path, "image")
    assert not (tmp_path / "harm").exists()
