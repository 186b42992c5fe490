"""Archives of images: order, what is left out, and hostile files."""

from __future__ import annotations

import gzip
import io
import tarfile
import zipfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeunet.errors import SourceError
from edgeunet.runtime.frames import Ignored
from edgeunet.runtime.sources import Frames, archives
from edgeunet.runtime.sources.archives import open_archive
from support.media import write_png

ENDS = [".zip", ".tar", ".tar.gz", ".tgz", ".tar.bz2"]


def png(value: int) -> bytes:
    path = Path("a.png")
    return write_png(path, np.full((4, 6), value, np.uint8)).read_bytes()


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def packed(path: Path, members: dict[str, bytes]) -> Path:
    if path.suffix == ".zip":
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
            for name, content in members.items():
                file.writestr(name, content)
        return path
    mode = {".gz": "w:gz", ".tgz": "w:gz", ".bz2": "w:bz2"}.get(path.suffix, "w")
    with tarfile.open(path, mode) as file:  # type: ignore[call-overload]
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            file.addfile(info, io.BytesIO(content))
    return path


@pytest.mark.parametrize("end", ENDS)
def test_images_of_an_archive_are_frames(
    folder: Path, end: str, caplog: pytest.LogCaptureFixture
) -> None:
    members = {
        "day/1.png": png(1), "day/2.PNG": png(2), "day/10.png": png(10), "notes.txt": b"none",
        "__MACOSX/day/._1.png": b"none", ".hidden.png": png(9),
    }  # fmt: skip
    before = sorted(folder.iterdir())
    path = packed(folder / f"frames{end}", members)
    for _ in range(2):  # each time anew
        with Frames.open(path).read() as source:
            assert (source.info.frames, source.ignored) == (3, Ignored(hidden=2, other=1))
            frames = list(source)
    assert [frame.name for frame in frames] == ["1.png", "2.PNG", "10.png"]
    assert [int(frame.image[0, 0, 0]) for frame in frames] == [1, 2, 10]
    assert f"frames{end}: not read: 2 hidden, 1 other." in caplog.messages[0]
    assert sorted(folder.iterdir()) == sorted([*before, path]), "nothing is extracted"


@pytest.mark.parametrize("end", ENDS)
def test_order_is_natural_or_is_told(
    folder: Path, end: str, caplog: pytest.LogCaptureFixture
) -> None:
    path = packed(folder / f"a{end}", {f"{number}.png": png(number) for number in (10, 2, 1)})
    frames = [int(frame.image[0, 0, 0]) for frame in Frames.open(path).read()]
    told = any("come in the order of the archive" in message for message in caplog.messages)
    goes_back = end in (".zip", ".tar")
    assert (frames, told) == (([1, 2, 10], False) if goes_back else ([10, 2, 1], True))


@pytest.mark.parametrize("end", [".zip", ".tar", ".tar.gz"])
def test_names_are_no_paths(folder: Path, end: str) -> None:
    inner = folder / "inner"
    inner.mkdir()
    names = ["../../out.png", "/etc/out2.png", "a\x1b[2J.png"]
    path = packed(inner / f"a{end}", dict.fromkeys(names, png(3)))
    frames = list(Frames.open(path).read())
    assert sorted(frame.name for frame in frames) == ["a\x1b[2J.png", "out.png", "out2.png"]
    assert not (folder / "out.png").exists()
    broken = packed(inner / f"b{end}", dict.fromkeys(names, b"none"))
    with pytest.raises(SourceError) as caught:
        list(Frames.open(broken).read())
    assert "\x1b" not in str(caught.value)


def test_links_are_not_followed(folder: Path) -> None:
    (folder / "secret.png").write_bytes(png(5))
    with tarfile.open(folder / "a.tar", "w") as file:
        for kind, name in ((tarfile.SYMTYPE, "soft.png"), (tarfile.LNKTYPE, "hard.png")):
            info = tarfile.TarInfo(name)
            info.type, info.linkname = kind, str(folder / "secret.png")
            file.addfile(info)
        fifo = tarfile.TarInfo("fifo.png")
        fifo.type = tarfile.FIFOTYPE
        file.addfile(fifo)
        good = tarfile.TarInfo("good.png")
        good.size = len(png(1))
        file.addfile(good, io.BytesIO(png(1)))
    source = Frames.open(folder / "a.tar").read()
    assert [frame.name for frame in source] == ["good.png"]
    assert source.ignored == Ignored(other=3)
    with zipfile.ZipFile(folder / "a.zip", "w") as file:
        link = zipfile.ZipInfo("link.png")
        link.external_attr = 0o120777 << 16
        file.writestr(link, str(folder / "secret.png"))
    with pytest.raises(SourceError, match="holds no image"):
        Frames.open(folder / "a.zip").read()


def test_damaged_member_is_named_and_the_others_are_read(folder: Path) -> None:
    path = packed(folder / "a.zip", {"1.png": png(1), "2.png": b"none", "3.png": png(3)})
    content = bytearray(path.read_bytes())
    source = Frames.open(path).read()
    assert [next(source).name, next(source).name] == ["1.png", "3.png"]
    with pytest.raises(SourceError, match=r"1 of 3 images.*a\.zip:2\.png cannot be read as an im"):
        next(source)
    at = content.index(b"3.png") + 12
    content[at : at + 4] = b"\xff" * 4
    path.write_bytes(content)
    source = Frames.open(path).read(skip_damaged=True)
    assert [frame.name for frame in source] == ["1.png"]
    assert "3.png in " in source.damaged[1]


@pytest.mark.parametrize("end", ENDS)
def test_member_that_is_too_large_is_left_out(
    folder: Path, end: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(archives, "LARGEST_MEMBER", 100_000)
    path = packed(folder / f"a{end}", {"1.png": png(1), "2.png": bytes(100_001)})
    source = Frames.open(path).read(skip_damaged=True)
    assert [frame.name for frame in source] == ["1.png"]
    assert "2.png in" in source.damaged[0] and "100001 bytes" in source.damaged[0]


def test_member_that_lies_about_its_size(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A bomb says that it is small; no more is unpacked than an image may have."""
    monkeypatch.setattr(archives, "LARGEST_MEMBER", 1000)
    path = packed(folder / "a.zip", {"1.png": bytes(1 << 20)})
    content = path.read_bytes()
    path.write_bytes(content.replace((1 << 20).to_bytes(4, "little"), (7).to_bytes(4, "little")))
    with pytest.raises(SourceError, match=r"1\.png in .*a\.zip"):
        list(Frames.open(path).read())


def test_tar_that_grows_like_a_bomb_is_refused(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(archives, "ANY_GROWTH", 1 << 20)
    path = packed(folder / "a.tar.gz", {"notes.txt": bytes(1 << 26), "1.png": png(1)})
    with pytest.raises(SourceError, match=r"cannot be read as an archive: .*unpacks to more than"):
        open_archive(path)


def test_header_that_claims_much_memory_is_refused(folder: Path) -> None:
    info = tarfile.TarInfo("x")
    info.type, info.size = tarfile.XHDTYPE, 1 << 32
    with gzip.open(folder / "a.tar.gz", "wb") as file:
        file.write(info.tobuf(tarfile.GNU_FORMAT) + bytes(1 << 16))
    with pytest.raises(SourceError, match="a header claims 4294967296 bytes"):
        open_archive(folder / "a.tar.gz")


def test_methods_with_memory_of_their_own_choice_are_refused(folder: Path) -> None:
    with zipfile.ZipFile(folder / "a.zip", "w", zipfile.ZIP_LZMA) as file:
        file.writestr("1.png", png(1))
    with pytest.raises(SourceError, match="compression method 14 is not supported; pack it as"):
        list(Frames.open(folder / "a.zip").read())


def test_encrypted_member_is_told(folder: Path) -> None:
    path = packed(folder / "a.zip", {"1.png": png(1)})
    content = bytearray(path.read_bytes())
    for start, flags in ((b"PK\3\4", 6), (b"PK\1\2", 8)):
        content[content.index(start) + flags] |= 1
    path.write_bytes(content)
    with pytest.raises(SourceError, match=r"1\.png in .* is encrypted, password required"):
        list(Frames.open(path).read())


@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize("make", [lambda content: b"", lambda content: b"none" * 300,
                                  lambda content: content[: len(content) // 2]])  # fmt: skip
def test_what_is_no_archive_is_refused(
    folder: Path, end: str, make: Callable[[bytes], bytes]
) -> None:
    noise = np.random.default_rng(0).bytes(5000)
    path = packed(folder / f"a{end}", {"1.png": png(1), "2.png": noise})
    path.write_bytes(make(path.read_bytes()))
    with pytest.raises(SourceError, match=r"a\.\S+ (cannot be read as an archive|holds no image)"):
        Frames.open(path).read()


@pytest.mark.parametrize("end", [".zip", ".tar", ".tar.gz"])
@given(where=st.floats(0, 1), garbage=st.binary(min_size=1, max_size=64))
@settings(max_examples=60)
def test_damaged_archive_gives_frames_or_an_error(
    tmp_path_factory: pytest.TempPathFactory, end: str, where: float, garbage: bytes
) -> None:
    folder = tmp_path_factory.mktemp("damaged")
    path = packed(folder / f"a{end}", {f"{number}.png": png(number) for number in range(3)})
    content = bytearray(path.read_bytes())
    at = int(where * (len(content) - len(garbage)))
    content[at : at + len(garbage)] = garbage
    path.write_bytes(content)
    with suppress(SourceError):
        assert len(list(Frames.open(path).read(skip_damaged=True))) <= 3


def test_archive_is_closed(folder: Path) -> None:
    path = packed(folder / "a.zip", {"1.png": png(1)})
    before = len(list(Path("/proc/self/fd").iterdir()))
    for _ in range(3):
        with Frames.open(path).read() as source:
            next(source)
    assert len(list(Path("/proc/self/fd").iterdir())) == before
