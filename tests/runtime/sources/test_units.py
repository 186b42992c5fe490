"""Reading units: every kind, damage within, and inputs that were changed."""

from __future__ import annotations

import json
import threading
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from edgeunet.errors import SourceError
from edgeunet.runtime.frames import Ignored
from edgeunet.runtime.sources import archives, units
from edgeunet.runtime.sources.items import list_items
from edgeunet.runtime.sources.units import Unit, UnitReader
from support.archived import flat, folder_of, table_of, tar_of, zip_of

IMAGES = {f"d/{number}.png": flat(number) for number in range(5)}


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_all_kinds_give_the_same_frames(folder: Path) -> None:
    files = folder_of(folder / "d", {Path(name).name: each for name, each in IMAGES.items()})
    structs = [{"bytes": content, "path": name} for name, content in IMAGES.items()]
    for source in (
        files,
        tar_of(folder / "a.tar", IMAGES),
        tar_of(folder / "a.tgz", IMAGES),
        zip_of(folder / "a.zip", IMAGES),
        table_of(folder / "a.parquet", image=structs),
    ):
        found = []
        with UnitReader() as reader:
            for unit in list_items(source, size=2).units:
                images = reader.open(Unit.from_json(unit.to_json()))
                found += [(Path(each.name).name, int(each.image[0, 0, 0])) for each in images]
                assert images.faults == []
        assert found == [(f"{number}.png", number) for number in range(5)], source


def test_what_cannot_be_read_is_named_and_left_out(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All of it, each with its reason; also the only image of a unit."""
    monkeypatch.setattr(archives, "LARGEST_MEMBER", 100_000)
    members = {
        "../../out.png": flat(1), "empty.png": b"", "large.png": bytes(100_001),
        "cut.png": flat(2)[:60], "a.txt": b"none", ".hidden.png": flat(1),
    }  # fmt: skip
    tar_of(folder / "a.tar", members)
    (unit,) = list_items("a.tar").units
    with UnitReader() as reader:
        images = reader.open(unit)
        assert [frame.name for frame in images] == ["../../out.png"]
        reasons = {fault.name: fault.reason for fault in images.faults}
        assert list(reasons) == ["cut.png", "empty.png", "large.png"]
        assert "100001 bytes" in reasons["large.png"]
        for whole in ("a.tar", "bad.tar"):
            (folder / "bad.tar").write_bytes(b"none")
            stamp = units.Place.of(whole).stamped().stamp
            images = reader.open(Unit("whole", str(folder / whole), stamp))
            assert len(list(images)) == (1 if whole == "a.tar" else 0)
            assert images.ignored == (Ignored(1, 1) if whole == "a.tar" else Ignored())
        assert [fault.name for fault in images.faults] == ["bad.tar"]
        assert "cannot be read as an archive" in images.faults[0].reason
        images = reader.open(Unit("files", str(folder), names=("none.png",), images=1))
        assert (list(images), [fault.name for fault in images.faults]) == ([], ["none.png"])


def test_pages_are_frames_and_damaged_ones_are_named(folder: Path) -> None:
    pages = [Image.new("L", (6, 4), value) for value in (1, 2)]
    pages[0].save("a.tif", save_all=True, append_images=pages[1:])
    with UnitReader() as reader:
        images = reader.open(Unit("files", str(folder), names=("a.tif",), images=1))
        assert [frame.name for frame in images] == ["a.tif#1", "a.tif#2"]


def test_an_input_that_was_changed_or_is_elsewhere_is_refused(folder: Path) -> None:
    for make, name in ((tar_of, "a.tar"), (zip_of, "a.zip")):
        path = make(folder / name, IMAGES)
        (unit,) = list_items(path).units
        with UnitReader() as reader:
            reader.open(unit)
            make(path, {**IMAGES, "6.png": flat(1)})
            with pytest.raises(SourceError, match=r"was changed since the run was planned"):
                reader.open(unit)
            path.unlink()
            with pytest.raises(SourceError, match="cannot be read: it does not exist"):
                reader.open(unit)
    with UnitReader() as reader, pytest.raises(SourceError, match="no folder on this machine"):
        reader.open(Unit("files", str(folder / "none"), names=("1.png",), images=1))


def test_addresses_are_read_side_by_side_and_in_order(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    together = threading.Barrier(3, timeout=10)

    def read(place: units.Place, most: int) -> bytes:
        number = int(Path(place.name).stem)
        if number < 3:
            together.wait()  # returns when three wait
        if number == 4:
            raise SourceError("4.png is gone.")
        return flat(number)

    monkeypatch.setattr(units.Place, "read", read)
    names = tuple(f"memory://host/d/{number}.png" for number in range(6))
    with UnitReader() as reader:
        images = reader.open(Unit("files", "", names=names, images=6))
        frames = list(images)
    assert [int(frame.image[0, 0, 0]) for frame in frames] == [0, 1, 2, 3, 5]
    assert frames[0].name == "d/0.png"
    assert [fault.reason for fault in images.faults] == ["4.png is gone."]


def test_a_record_holds_no_password_and_any_name(folder: Path) -> None:
    name = "https://me:secret@host/1.png?token=hidden"
    unit = Unit("files", "", names=(name, "caf\udce9.png"), images=2)
    told = json.dumps(unit.record())
    assert "secret" not in told and "hidden" not in told
    assert Unit.from_json(unit.to_json()) == unit
    assert unit.to_json().isascii()
    assert np.all([each in told for each in ("1.png", "caf\\udce9.png")])
