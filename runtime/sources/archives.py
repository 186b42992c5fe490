"""Images in ZIP and TAR archives, read one at a time; nothing is extracted to disk."""

from __future__ import annotations

import bz2
import gzip
import io
import stat
import tarfile
import zipfile
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path, PurePosixPath
from typing import IO, Any

from edgeunet.errors import SourceError, printable
from edgeunet.listing import IMAGE_SUFFIXES, natural_key

from ..frames import NOTHING_IGNORED, Ignored
from ..pipeline.stopping import Closing
from .places import Place

ARCHIVE_SUFFIXES = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tbz2")
"""Ends of names, in lower case, of files that are read as archives."""

LARGEST_MEMBER = 1 << 29
"""Bytes of the largest image that is read from an archive."""

# A compressed tar must be read from its start to be listed. Images hardly shrink, so one that
# grows more than this holds something else, such as a bomb.
MOST_GROWTH, ANY_GROWTH = 100, 1 << 28

# LZMA asks for as much memory as the file says, up to 4 GB.
_ZIP_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2)


def is_archive(path: Path | Place) -> bool:
    """Whether a name has one of `ARCHIVE_SUFFIXES`.

    Example:
        >>> from pathlib import Path; from edgeunet.runtime.sources.archives import is_archive
        >>> is_archive(Path("frames.tar.gz"))
        True
    """
    return path.name.lower().endswith(ARCHIVE_SUFFIXES)


@dataclass(frozen=True)
class Member:
    """One image in an archive. name: its path in the archive. size: bytes, when unpacked."""

    name: str
    size: int
    _info: Any

    @property
    def file_name(self) -> str:
        """The name without its folders."""
        return PurePosixPath(self.name).name


class Archive(Closing, ABC):
    """The images of an archive, in the order in which `read` takes them.

    Names are for printing and for naming results. They are never used as paths, and links are
    never followed. ignored: members that are no images, or whose name begins with a dot. in_order:
    whether `members` are in natural order.

    Raises:
        SourceError: it cannot be read as an archive, or holds no image.
    """

    def __init__(self, path: Path | Place) -> None:
        self.name = printable(path)
        self.members: Sequence[Member] = ()
        self.ignored = NOTHING_IGNORED
        self.in_order = True
        try:
            self._open(path)
            self.members = self._listed()
        except SourceError:
            self.close()
            raise
        except Exception as error:  # damage raises anything
            self.close()
            raise SourceError(
                f"{self.name} cannot be read as an archive: {_reason(error)}."
            ) from None
        if not self.members:
            self.close()
            raise SourceError(f"{self.name} holds no image ({', '.join(sorted(IMAGE_SUFFIXES))}).")

    def read(self, member: Member) -> bytes:
        """Content of a member.

        Raises:
            SourceError: it is larger than `LARGEST_MEMBER`, encrypted or damaged.
        """
        name = f"{printable(member.name)} in {self.name}"
        if member.size > LARGEST_MEMBER:
            raise SourceError(
                f"{name} has {member.size} bytes; an image in an archive has at most "
                f"{LARGEST_MEMBER}. Unpack the archive."
            )
        try:
            with self._opened(member) as file:
                content = file.read(LARGEST_MEMBER + 1)
        except SourceError:
            raise
        except Exception as error:
            raise SourceError(f"{name} cannot be unpacked: {_reason(error)}.") from None
        if len(content) != member.size:
            raise SourceError(
                f"{name} is damaged: it has {len(content)} bytes, the archive says {member.size}."
            )
        return content

    @abstractmethod
    def _open(self, path: Path | Place) -> None:
        """Open the file."""

    @abstractmethod
    def _listed(self) -> Sequence[Member]:
        """The images."""

    @abstractmethod
    def _opened(self, member: Member) -> IO[bytes]:
        """A member's content."""

    def _wanted(self, name: str, *, regular: bool) -> bool:
        """Whether a member is an image; counts the others."""
        path = PurePosixPath(name)
        if any(part.startswith(".") and part not in (".", "..") for part in path.parts):
            self.ignored += Ignored(hidden=1)
            return False
        if not regular or path.suffix.lower() not in IMAGE_SUFFIXES or "__MACOSX" in path.parts:
            self.ignored += Ignored(other=1)
            return False
        return True


def open_archive(path: Path | Place) -> Archive:
    """Open an archive by its name's end; errors as of `Archive`."""
    return ZipArchive(path) if path.name.lower().endswith(".zip") else TarArchive(path)


class ZipArchive(Archive):
    """A ZIP file. Its images come in natural order."""

    def _open(self, path: Path | Place) -> None:
        self._file = path.open("rb")
        self._zip = zipfile.ZipFile(self._file)

    def _listed(self) -> Sequence[Member]:
        members = []
        for info in self._zip.infolist():
            if info.is_dir():
                continue
            mode = info.external_attr >> 16
            regular = stat.S_IFMT(mode) in (0, stat.S_IFREG)  # 0: made on Windows
            if self._wanted(info.filename, regular=regular):
                members.append(Member(info.filename, info.file_size, info))
        return sorted(members, key=lambda member: natural_key(member.name))

    def _opened(self, member: Member) -> IO[bytes]:
        info: zipfile.ZipInfo = member._info
        if info.compress_type not in _ZIP_METHODS:
            raise NotImplementedError(
                f"compression method {info.compress_type} is not supported; pack it as deflate"
            )
        return self._zip.open(info)

    def close(self) -> None:
        """Close the file."""
        if hasattr(self, "_file"):
            self._file.close()


class TarArchive(Archive):
    """A TAR file, also compressed by gzip or bzip2.

    Images come in natural order. Those of a compressed file come in the order of the archive: to go
    back in it is to unpack it from its start.
    """

    def _open(self, path: Path | Place) -> None:
        name, stored = path.name.lower(), path.open("rb")
        size = stored.seek(0, io.SEEK_END)
        stored.seek(0)
        self._compressed = not name.endswith(".tar")
        file: Any = stored
        if name.endswith((".gz", ".tgz")):
            file = gzip.open(stored)  # noqa: SIM115  # `close` closes both
        elif self._compressed:
            file = bz2.open(stored)  # noqa: SIM115
        limit = ANY_GROWTH + MOST_GROWTH * size if self._compressed else size
        self._file = _Bounded(file, limit, stored)
        self._tar = tarfile.open(fileobj=self._file, mode="r:")  # noqa: SIM115

    def _listed(self) -> Sequence[Member]:
        members = []
        while (info := self._tar.next()) is not None:
            self._tar.members = []  # type: ignore[attr-defined]  # it would keep all of them
            if not info.isdir() and self._wanted(info.name, regular=info.isreg()):
                members.append(Member(info.name, info.size, info))
        self.in_order = all(
            natural_key(before.name) <= natural_key(after.name)
            for before, after in pairwise(members)
        )
        if not self._compressed:
            members.sort(key=lambda member: natural_key(member.name))
            self.in_order = True
        return members

    def _opened(self, member: Member) -> IO[bytes]:
        file = self._tar.extractfile(member._info)
        assert file is not None  # `_listed` keeps regular files only
        return file

    def close(self) -> None:
        """Close the file."""
        if hasattr(self, "_file"):
            self._file.close()


class _Bounded(io.RawIOBase):
    """A file that is not read beyond a position, nor in larger parts than an image may have.

    `tarfile` reads names and other headers at whatever length they claim.
    """

    def __init__(self, file: IO[bytes], limit: int, stored: IO[bytes]) -> None:
        self._of = file
        self._limit = limit
        self._stored = stored  # the same file, or what it unpacks

    def read(self, size: int = -1) -> bytes:
        if not 0 <= size <= LARGEST_MEMBER + 1:
            raise tarfile.ReadError(f"a header claims {size} bytes")
        content = self._of.read(size)
        self._check(self._of.tell())
        return content

    def seek(self, position: int, whence: int = 0) -> int:
        assert whence == 0  # all that tarfile does
        self._check(position)
        return self._of.seek(position)

    def tell(self) -> int:
        return self._of.tell()

    def seekable(self) -> bool:
        return True

    def close(self) -> None:
        self._of.close()
        self._stored.close()

    def _check(self, position: int) -> None:
        if position > self._limit:
            raise tarfile.ReadError(
                f"it is cut off, or unpacks to more than {self._limit} bytes, as no images do"
            )


def _reason(error: Exception) -> str:
    return printable(error).rstrip(".") or type(error).__name__
