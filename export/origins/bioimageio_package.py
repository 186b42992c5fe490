"""Packages of BioImage.IO: a folder or a ZIP file, of which only what is named is read.

No name in a package leads out of it, no link is followed out of it, and nothing is downloaded.
"""

from __future__ import annotations

import hmac
import posixpath
import re
import stat
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from edgeunet.bundle.graphs import MAX_BYTES
from edgeunet.bundle.schema import SchemaError, load_yaml
from edgeunet.errors import CheckpointError, UsageError, printable
from edgeunet.files import sha256

NAMES = ("rdf.yaml", "bioimageio.yaml", "model.yaml")
"""Of the description; another name may stand in front, with a point between."""

_MOST_ARRAY = 1 << 28
_MOST_DIRECTORY = 1 << 20  # bytes of the list in a ZIP file: Python makes an object of each entry
_END, _END_64, _END_BYTES, _END_64_BYTES, _COMMENT = b"PK\5\6", b"PK\6\7", 22, 20, 1 << 16
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
_BLOCK = 1 << 20
_SHOWN = 80  # characters of a text that an error quotes
_LONGEST = 255  # characters of a file's name
_DIGEST = re.compile("[0-9a-fA-F]{64}")


def quoted(value: object) -> str:
    """A text of the package for people, cut if it is long."""
    text = str(value)
    return printable(text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…")


class File(NamedTuple):
    """A file as the description names it, with its SHA-256 if that is told."""

    source: str
    sha256: str | None = None

    @classmethod
    def of(cls, entry: Any) -> File:
        """From a name, or an object of `source` and `sha256`.

        Raises:
            KeyError, ValueError: it is neither.
        """
        if isinstance(entry, str):
            return cls(entry)
        digest = entry.get("sha256")
        if digest is not None and not _DIGEST.fullmatch(str(digest)):
            raise ValueError(f"{quoted(digest)} is no SHA-256")
        return cls(str(entry["source"]), None if digest is None else str(digest))


class Package:
    """An opened package.

    Args:
        path: of the folder or the ZIP file, for errors. root: where its files are.
        archive: the ZIP file that they are unpacked from when they are asked for.
    """

    def __init__(self, path: Path, root: Path, archive: zipfile.ZipFile | None = None) -> None:
        self.path = path
        self.root = root
        self._archive = archive
        self._members = {} if archive is None else _members(path, archive)
        self.description = self._described()

    def read(self) -> Any:
        """The description.

        Raises:
            CheckpointError: it cannot be read, see `load_yaml`.
        """
        try:
            return load_yaml(self.file(File(self.description)))
        except SchemaError as error:
            raise CheckpointError(f"{self.path}: {self.description} {error}.") from None

    def file(self, file: File) -> Path:
        """Where a file is, at most 1 GB.

        Raises:
            CheckpointError: it is missing, outside of the package, too large, or not what its
                SHA-256 says.
        """
        name = self._inside(file.source)
        path = self.root / name
        if self._archive is not None and not path.exists():
            self._unpack(name, path)
        if not path.resolve().is_relative_to(self.root.resolve()):
            raise CheckpointError(
                f"{self.path}: {quoted(name)} is a link out of the package. Copy the file into it."
            )
        if not path.is_file():
            raise CheckpointError(f"{self.path} lacks {quoted(name)}, which it names.")
        if path.stat().st_size > MAX_BYTES:
            raise CheckpointError(
                f"{self.path}: {quoted(name)} has {path.stat().st_size} bytes; at most "
                f"{MAX_BYTES} are read."
            )
        found = "" if file.sha256 is None else sha256(path)
        if file.sha256 is not None and not hmac.compare_digest(found, file.sha256.lower()):
            raise CheckpointError(
                f"{self.path}: {quoted(name)} is not the file that its description means: its "
                f"SHA-256 is {found[:12]}…, expected {file.sha256[:12].lower()}…. Download the "
                "package again."
            )
        return path

    def array(self, file: File) -> npt.NDArray[Any]:
        """The array in a .npy file.

        Raises:
            CheckpointError: see `file`; no such file, Python objects, or values that are not
                finite.
        """
        path = self.file(file)
        problem = f"has {path.stat().st_size} bytes"
        if path.stat().st_size <= _MOST_ARRAY:
            try:
                # Mapped, the file must have all the bytes that its header claims.
                found = np.load(path, mmap_mode="r", allow_pickle=False)
                if not isinstance(found, np.ndarray) or found.dtype.kind not in "buif":
                    problem = "holds no numbers"
                elif found.size and not np.isfinite(found).all():
                    problem = "holds values that are not finite"
                else:
                    return np.array(found)
            except (ValueError, OSError, EOFError, SyntaxError, OverflowError) as error:
                problem = f"cannot be read: {error}"
        raise CheckpointError(
            f"{self.path}: {quoted(file.source)} {problem}; expected a .npy file of numbers, of "
            f"at most {_MOST_ARRAY} bytes."
        )

    def _described(self) -> str:
        """Name of the description."""
        if self._archive is not None:
            # A folder may have been packed, not what is in it.
            names = [name for name in self._members if name.count("/") <= 1]
        else:
            names = [path.name for path in self.root.iterdir()]
        found = sorted(filter(_is_description, names))
        shallow = [name for name in found if "/" not in name]
        found = shallow or found
        plain = [name for name in found if name.rpartition("/")[2] in NAMES]
        if len(plain or found) != 1:
            lacks = f"has {', '.join(map(printable, plain or found))}" if found else "has none"
            raise CheckpointError(
                f"{self.path} {lacks} of {', '.join(NAMES)}; expected one of them, the description "
                "of a BioImage.IO model."
            )
        (name,) = plain or found
        if "/" in name:
            folder = name.partition("/")[0]
            self._members = {
                key.removeprefix(f"{folder}/"): info
                for key, info in self._members.items()
                if key.startswith(f"{folder}/")
            }
        return name.rpartition("/")[2]

    def _inside(self, source: str) -> str:
        if re.match("[A-Za-z][A-Za-z0-9+.-]+:", source):
            raise CheckpointError(
                f"{self.path} names {quoted(source)}, and nothing is downloaded. Pass the whole "
                "package: bioimageio package SOURCE PACKAGE.zip."
            )
        name = posixpath.normpath(source.replace("\\", "/"))
        outside = name.startswith(("/", "..")) or name == "." or "\0" in name or name[1:2] == ":"
        long = max(map(len, name.split("/"))) > _LONGEST
        if outside or long:
            raise CheckpointError(
                f"{self.path} names {quoted(source)}; expected a file inside the package."
            )
        return name

    def _unpack(self, name: str, path: Path) -> None:
        """Write a member of the archive to disk, no more than it claims."""
        info = self._members.get(name)
        if info is None:
            return
        assert self._archive is not None
        mode = stat.S_IFMT(info.external_attr >> 16)
        problem = ""
        if mode not in (0, stat.S_IFREG):  # 0: made on Windows
            problem = "is a link or no regular file"
        elif info.flag_bits & 1:
            problem = "is encrypted"
        elif info.compress_type not in _METHODS:
            problem = f"has compression method {info.compress_type}; expected deflate"
        elif info.file_size > MAX_BYTES:
            problem = f"has {info.file_size} bytes; at most {MAX_BYTES} are read"
        if problem:
            raise CheckpointError(f"{self.path}: {quoted(name)} {problem}.")
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with self._archive.open(info) as member, path.open("xb") as file:
                while block := member.read(_BLOCK):  # it ends at the size that was checked
                    file.write(block)
        except Exception as error:  # damage raises almost anything
            path.unlink(missing_ok=True)
            raise CheckpointError(
                f"{self.path}: {quoted(name)} cannot be unpacked: {quoted(error)}."
            ) from None


@contextmanager
def open_package(name: str) -> Iterator[Package]:
    """The package in a folder or a ZIP file; unpacked files are there until the block ends.

    Raises:
        UsageError: no such file. CheckpointError: no package.

    Example:
        >>> from edgeunet.exporting.origins.bioimageio_package import open_package
        >>> with open_package("nuclei.zip") as package:
        ...     package.read()
        Traceback (most recent call last):
        edgeunet.errors.UsageError: nuclei.zip does not exist. Pass bioimageio:PACKAGE, a folder \
with rdf.yaml in it or a ZIP file; nothing is downloaded.
    """
    path = Path(name)
    if path.is_dir():
        yield Package(path, path)
        return
    if not name or not path.is_file():
        raise UsageError(
            f"{quoted(name) or 'bioimageio:'} does not exist. Pass bioimageio:PACKAGE, a folder "
            "with rdf.yaml in it or a ZIP file; nothing is downloaded."
        )
    with tempfile.TemporaryDirectory(prefix="edgeunet-") as folder:
        try:
            _check_directory(path)
            archive = zipfile.ZipFile(path)
        except (zipfile.BadZipFile, ValueError, OSError, NotImplementedError) as error:
            raise CheckpointError(
                f"{path} cannot be read as a ZIP file: {quoted(error)}. Pass a BioImage.IO "
                "package, or its folder."
            ) from None
        with archive:
            yield Package(path, Path(folder), archive)


def _check_directory(path: Path) -> None:
    """ValueError if the list of the members of a ZIP file could fill the memory."""
    size = path.stat().st_size
    with path.open("rb") as file:
        file.seek(max(0, size - _END_BYTES - _COMMENT - _END_64_BYTES))
        tail = file.read()
    place = len(tail) - _END_BYTES  # where Python looks first
    if not (tail[place:].startswith(_END) and tail.endswith(b"\0\0")):
        place = tail.rfind(_END)
    if place < 0:
        raise ValueError("it has no list of its members, or was cut off")
    length = int.from_bytes(tail[place + 12 : place + 16], "little")
    if length > _MOST_DIRECTORY or tail[max(0, place - _END_64_BYTES) :].startswith(_END_64):
        raise ValueError(f"the list of its members has {length} bytes; expected a few files")


def _members(path: Path, archive: zipfile.ZipFile) -> dict[str, zipfile.ZipInfo]:
    """Files by their plain names; two of one name are refused."""
    members: dict[str, zipfile.ZipInfo] = {}
    for info in archive.infolist():
        name = posixpath.normpath(info.filename.replace("\\", "/"))
        if info.is_dir() or name.startswith(("/", "..")):
            continue  # whoever names the latter is told that it is outside
        if name in members:
            raise CheckpointError(f"{path} holds two files of the name {quoted(name)}.")
        members[name] = info
    return members


def _is_description(name: str) -> bool:
    last = name.rpartition("/")[2]
    return any(last == each or last.endswith(f".{each}") for each in NAMES)
