"""The list of written files: hostile and damaged ones remove nothing that is not ours."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

from edgeunet.runtime.sinks.written import LIST_NAME, WrittenFiles
from support.masks import names


def entry(name: object, content: bytes) -> bytes:
    return (
        json.dumps({"name": name, "sha256": hashlib.sha256(content).hexdigest()}).encode() + b"\n"
    )


def test_files_are_listed_before_they_are_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("edgeunet.runtime.sinks.written.write_bytes", killed)
    with WrittenFiles(tmp_path, names=set()) as files, pytest.raises(KeyboardInterrupt):
        files.write("a.png", b"content")
    assert (tmp_path / LIST_NAME).read_bytes() == entry("a.png", b"content")


@pytest.mark.parametrize("name", ["../a", "sub/a", "/etc/hostname", "..", ".", "", 7, None, ["a"]])
def test_list_names_nothing_outside_its_folder(tmp_path: Path, name: object) -> None:
    folder = tmp_path / "out"
    (folder / "sub").mkdir(parents=True)
    for path in (tmp_path / "a", folder / "sub" / "a"):
        path.write_bytes(b"kept")
    (folder / LIST_NAME).write_bytes(entry(name, b"kept"))
    WrittenFiles(folder, names=set()).close()
    assert (tmp_path / "a").read_bytes() == (folder / "sub" / "a").read_bytes() == b"kept"


def test_link_in_place_of_a_file_stays(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"kept")
    folder = tmp_path / "out"
    folder.mkdir()
    (folder / "link").symlink_to(tmp_path / "a")
    (folder / LIST_NAME).write_bytes(entry("link", b"kept"))
    WrittenFiles(folder, names=set()).close()
    assert names(folder) == sorted([LIST_NAME, "link"])


@pytest.mark.parametrize(
    "damage",
    [b"", b"\xff\n", b"[]\n", b"7\n", b"{}\n", b'{"name": "a"}\n', b"[" * 100_000, b'{"na'],
)
def test_damaged_line_does_not_hide_the_others(tmp_path: Path, damage: bytes) -> None:
    (tmp_path / "a").write_bytes(b"ours")
    (tmp_path / LIST_NAME).write_bytes(damage.rstrip() + b"\n" + entry("a", b"ours") + damage)
    WrittenFiles(tmp_path, names={"a"}).close()
    assert names(tmp_path) == [LIST_NAME]


def test_names_that_are_not_utf8_come_back(tmp_path: Path) -> None:
    for _ in range(2):
        with WrittenFiles(tmp_path, names={"stra\udcdfe.png"}) as files:
            files.write("stra\udcdfe.png", b"ours")
    assert names(tmp_path) == [LIST_NAME, "stra\udcdfe.png"]
