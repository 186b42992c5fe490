"""Packages from anyone: what leaves their folder, is too large or is not what they say."""

from __future__ import annotations

import stat
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from edgeunet.errors import CheckpointError, UsageError
from edgeunet.exporting.origins import bioimageio_package
from edgeunet.exporting.origins.bioimageio_package import File, open_package
from support.bioimageio import package, zipped


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return package(tmp_path / "net")


def archive(path: Path, *members: tuple[str | zipfile.ZipInfo, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for name, content in members:
            file.writestr(name, content)
    return path


def test_folder_and_zip_file_hold_the_same(folder: Path, tmp_path: Path) -> None:
    packed = tmp_path / "folder_inside.zip"
    with zipfile.ZipFile(packed, "w") as file:
        for path in folder.iterdir():
            file.write(path, f"net/{path.name}")
    wanted = np.load(folder / "input.npy")
    for source in (folder, zipped(folder, tmp_path / "net.zip"), packed):
        with open_package(str(source)) as found:
            assert found.read()["format_version"] == "0.5.3"
            np.testing.assert_array_equal(found.array(File("./input.npy")), wanted)
            unpacked = found.root
    assert not unpacked.exists()


@pytest.mark.parametrize(
    "source", ["../secret", "/etc/passwd", "a/../../secret", "..\\secret", "C:\\secret"]
)
@pytest.mark.parametrize("packed", [False, True])
def test_names_that_lead_out_are_refused(
    packed: bool, source: str, folder: Path, tmp_path: Path
) -> None:
    (tmp_path / "secret").write_text("secret")
    name = folder
    if packed:
        name = archive(tmp_path / "net.zip", ("rdf.yaml", b"a: 1"), (source, b"secret"))
    with open_package(str(name)) as found, pytest.raises(CheckpointError, match="inside the pack"):
        found.file(File(source))


def test_links_out_of_the_package_are_refused(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("secret")
    (folder / "link.npy").symlink_to(tmp_path / "secret")
    link = zipfile.ZipInfo("link.npy")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    packed = archive(tmp_path / "net.zip", ("rdf.yaml", b"a: 1"), (link, b"../secret"))
    for name, message in ((folder, "is a link out of the package"), (packed, "is a link or no")):
        with open_package(str(name)) as found, pytest.raises(CheckpointError, match=message):
            found.file(File("link.npy"))


def test_bombs_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bioimageio_package, "MAX_BYTES", 1 << 20)
    packed = archive(tmp_path / "a.zip", ("rdf.yaml", b"a: 1"), ("b.npy", bytes(2 << 20)))
    with open_package(str(packed)) as found, pytest.raises(CheckpointError, match="2097152 bytes"):
        found.file(File("b.npy"))
    content = packed.read_bytes()  # claims fewer bytes than it holds
    packed.write_bytes(content.replace((2 << 20).to_bytes(4, "little"), b"\0\1\0\0"))
    with open_package(str(packed)) as found, pytest.raises(CheckpointError, match="be unpacked"):
        found.file(File("b.npy"))
    many = archive(tmp_path / "c.zip", *((f"{number:099}", b"") for number in range(8000)))
    with (
        pytest.raises(CheckpointError, match="the list of its members has"),
        open_package(str(many)),
    ):
        pass


def objects(path: Path) -> None:
    np.save(path, np.array([{}], object), allow_pickle=True)


def endless(path: Path) -> None:
    np.save(path, np.zeros(4, np.float32))
    path.write_bytes(path.read_bytes().replace(b"(4,)", b"(1e", 1).replace(b"(1e", b"(99999999,)"))


def claims_more(path: Path) -> None:
    np.save(path, np.zeros(10**6, np.uint8))
    path.write_bytes(path.read_bytes()[:1000])


def several(path: Path) -> None:
    np.savez(path.with_suffix(".npz"), a=1)
    path.with_suffix(".npz").rename(path)


@pytest.mark.parametrize(
    ("write", "message"),
    [
        (objects, "cannot be read"),
        (endless, "cannot be read"),
        (claims_more, "cannot be read"),
        (several, "holds no numbers"),
        (lambda path: np.save(path, np.array(["a"])), "holds no numbers"),
        (lambda path: np.save(path, np.array([np.nan])), "values that are not finite"),
        (lambda path: path.write_text("PNG"), "cannot be read"),
    ],
)
def test_arrays_that_are_none_are_refused(
    write: Callable[[Path], None], message: str, folder: Path
) -> None:
    write(folder / "input.npy")
    with open_package(str(folder)) as found, pytest.raises(CheckpointError, match=message):
        found.array(File("input.npy"))


def test_files_that_are_not_what_they_should_be(folder: Path, tmp_path: Path) -> None:
    with open_package(str(folder)) as found:
        with pytest.raises(CheckpointError, match=r"SHA-256 is [0-9a-f]{12}…, expected 000000000"):
            found.file(File("weights.onnx", "0" * 64))
        with pytest.raises(CheckpointError, match=r"lacks mask\.npy, which it names"):
            found.file(File("mask.npy"))
        with pytest.raises(CheckpointError, match=r"nothing is downloaded\. Pass the"):
            found.file(File("https://example.org/weights.onnx"))
    (folder / "rdf.yaml").write_text("a: &a [1]\nb: *a")
    with open_package(str(folder)) as found, pytest.raises(CheckpointError, match="has an alias"):
        found.read()
    (folder / "rdf.yaml").unlink()
    with pytest.raises(CheckpointError, match=r"has none of rdf\.yaml"), open_package(str(folder)):
        pass
    twice = tmp_path / "twice.zip"
    with pytest.warns(UserWarning, match="Duplicate"):
        archive(twice, ("rdf.yaml", b"a: 1"), ("rdf.yaml", b"a: 2"))
    with pytest.raises(CheckpointError, match="two files of the name"), open_package(str(twice)):
        pass
    (tmp_path / "text.zip").write_text("no archive")
    with (
        pytest.raises(CheckpointError, match="cannot be read as a ZIP file"),
        open_package(str(tmp_path / "text.zip")),
    ):
        pass
    with (
        pytest.raises(UsageError, match=r"does not exist\. Pass bioimageio:PACKAGE"),
        open_package("none.zip"),
    ):
        pass
