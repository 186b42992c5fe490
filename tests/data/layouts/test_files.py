"""Files of unknown origin: bounded, without entities, and never out of the folder."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeunet.data.layouts import files
from edgeunet.data.layouts.files import (
    check_link,
    files_below,
    read_json,
    read_lines,
    read_table,
    read_xml,
    read_yaml,
    within,
)
from edgeunet.errors import DatasetError


def write(folder: Path, content: str | bytes, name: str = "file") -> Path:
    path = folder / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


BOMB = '<!DOCTYPE a [<!ENTITY b "bbbb"><!ENTITY c "&b;&b;&b;">]><a>&c;</a>'
OTHER_FILE = '<!DOCTYPE a [<!ENTITY b SYSTEM "file:///etc/passwd">]><a>&b;</a>'


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (BOMB, "has a document type, by which XML may read other files"),
        (OTHER_FILE, "has a document type"),
        ('<!DOCTYPE a SYSTEM "x.dtd"><a/>', "has a document type"),
        ("<a>" * 30 + "</a>" * 30, "is nested more than 20 deep"),
        ("<a><b></a>", "cannot be read as XML: mismatched tag"),
        ("", "cannot be read as XML: no element found"),
        ("<a>&b;</a>", "cannot be read as XML: undefined entity"),
        (b"\xff\xfe\x00", "cannot be read as XML"),
    ],
)
def test_unsafe_and_damaged_xml_is_refused(
    tmp_path: Path, content: str | bytes, words: str
) -> None:
    with pytest.raises(DatasetError, match=words):
        read_xml(write(tmp_path, content))


def test_xml_is_read_with_texts_and_attributes(tmp_path: Path) -> None:
    top = read_xml(write(tmp_path, "<a><b><c>x &lt; y</c></b><b k='1'/></a>"))
    assert [node.text_of("c") for node in top.find("b")] == ["x < y", ""]
    assert top.find("b", "c")[0].tag == "c"


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("a: &x [1]\nb: *x", r"has an alias \(\*name\)"),
        ("a: !!python/object/apply:os.system ['true']", "cannot be read as YAML"),
        ("".join(" " * n + "a:\n" for n in range(30)), "is nested more than 20 deep"),
        ("a: [", "cannot be read as YAML"),
        ("[" * 500_000, "is nested more than 20 deep"),
    ],
)
def test_unsafe_and_damaged_yaml_is_refused(tmp_path: Path, content: str, words: str) -> None:
    with pytest.raises(DatasetError, match=words):
        read_yaml(write(tmp_path, content))
    assert read_yaml(write(tmp_path, "names: [a, 'b']")) == {"names": ["a", "b"]}


def test_files_that_are_missing_or_too_large_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "MOST_BYTES", 10)
    for read in (read_json, read_xml, read_lines):
        with pytest.raises(DatasetError, match=r"nowhere (does not exist|cannot be read)"):
            read(tmp_path / "nowhere")
        with pytest.raises(DatasetError, match="expected at most 10"):
            read(write(tmp_path, "x" * 11))


def test_lines_and_tables_are_read(tmp_path: Path) -> None:
    assert read_lines(write(tmp_path, b"\xef\xbb\xbfa b\r\n\n c \n")) == ["a b", "c"]
    assert read_table(write(tmp_path, 'name, r\n"a, b", 7\n')) == [["a, b", "7"]]
    with pytest.raises(DatasetError, match="is no text in UTF-8"):
        read_lines(write(tmp_path, b"\xff"))


@pytest.mark.parametrize(
    "name",
    [
        "../a",
        "a/../../b",
        "/etc/passwd",
        "C:\\a.png",
        "..\\a.png",
        "a/../..",
        "a\0b",
        "c:a",
        "x" * 300,
    ],
)
def test_name_that_leads_out_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(DatasetError, match="expected a path inside"):
        within(tmp_path / "set", name, told_by=tmp_path / "list.txt")


@given(name=st.text("ab./\\:", max_size=12))
def test_name_leads_into_the_folder_or_is_refused(name: str) -> None:
    root = Path("/tmp/no-such-set")
    try:
        path = within(root, name, told_by=Path("list"))
    except DatasetError:
        return
    assert Path(os.path.normpath(path)).is_relative_to(root)


def test_links_are_followed_inside_only(tmp_path: Path) -> None:
    root, outside = tmp_path / "set", tmp_path / "outside"
    for folder in (root / "b", outside):
        folder.mkdir(parents=True)
        (folder / "x.png").touch()
    (root / "a.png").symlink_to(root / "b" / "x.png")
    assert [path.name for path in files_below(root)] == ["a.png", "x.png"]
    (root / ".hidden").symlink_to(outside)
    (root / "c").symlink_to(outside)
    with pytest.raises(DatasetError, match="is a link out of the data set"):
        list(files_below(root))
    (root / "c").unlink()
    (root / ".hidden").unlink()
    (root / "d.png").symlink_to(outside / "x.png")
    for use in (lambda: list(files_below(root)), lambda: within(root, "d.png", told_by=root)):
        with pytest.raises(DatasetError, match="is a link out of the data set"):
            use()
    (root / "e").symlink_to(root / "e")
    with pytest.raises(DatasetError, match="is a link out"):
        check_link(root, root / "e")
