"""Files and folders on this machine, or at addresses that fsspec opens."""

from __future__ import annotations

import glob
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import IO, Any
from urllib.parse import urlsplit

from edgeunet.errors import MissingDependencyError, SourceError, UsageError, first_line, printable
from edgeunet.extras import is_installed
from edgeunet.listing import natural_key

from .addresses import scheme_of
from .redaction import redacted

_CAMERAS = frozenset({"csi", "gst", "rtsp", "rtsps", "v4l2"})
_MAGIC = frozenset("*?[")

# What fsspec's file systems tell of a file that changes with its content.
_CHANGES = ("ETag", "etag", "md5Hash", "mtime", "LastModified", "last_modified", "updated")

_ATTEMPTS, _PAUSE = 3, 0.5
_FINAL = (FileNotFoundError, IsADirectoryError, NotADirectoryError, PermissionError)
_MISSING = (404, 410)  # HTTP's status


@dataclass(frozen=True)
class Place:
    """A file or folder: a path, or an address such as `s3://bucket/frames.tar`.

    where: the path or address, which may hold a password; as text, a place has none.
    stamp: size and time of the last change, as far as they are known: it changes with the file.

    Example:
        >>> from edgeunet.runtime.sources.places import Place
        >>> place = Place.of("https://me:secret@host/frames/0001.jpg?size=full")
        >>> place.name, place.remote, str(place)
        ('0001.jpg', True, 'https://***@host/frames/0001.jpg?size=full')
    """

    where: str
    stamp: str = ""

    @classmethod
    def of(cls, where: str | Path) -> Place:
        """The place that a path or address names.

        Raises:
            UsageError: a camera, or an address of a form that is not read.
            MissingDependencyError: what opens such addresses is not installed.
        """
        scheme, text = scheme_of(where), str(where)
        if not text:
            raise UsageError("an empty name is no file or folder.")
        if scheme in (None, "file"):
            # Workers may run in another folder.
            return cls(str(Path(text.removeprefix("file:").removeprefix("//")).absolute()))
        if scheme == "bag":
            raise UsageError(f"{printable(text)} is a bag. Run it without --workers.")
        if scheme in _CAMERAS:
            raise UsageError(
                f"{redacted(text)} is a camera or stream, which has no end. Run it without "
                "--workers."
            )
        if "::" in text or "://" not in text:
            raise UsageError(
                f"{redacted(text)}: expected one address such as s3://BUCKET/NAME, without '::'."
            )
        _check_scheme(scheme)
        return cls(text)

    def __str__(self) -> str:
        return printable(redacted(self.where) if self.remote else self.where)

    @property
    def remote(self) -> bool:
        """Whether it is an address."""
        return scheme_of(self.where) is not None

    @property
    def name(self) -> str:
        """Its last part, without a query."""
        scheme = scheme_of(self.where)
        if scheme is None:
            return Path(self.where).name
        bare = urlsplit(self.where).path if scheme in ("http", "https") else self.where
        return PurePosixPath(bare).name

    @property
    def suffix(self) -> str:
        """The end of its name, in lower case."""
        return PurePosixPath(self.name).suffix.lower()

    @property
    def is_glob(self) -> bool:
        """Whether it names whatever matches."""
        if not _MAGIC & set(self.where):
            return False
        if scheme_of(self.where) in ("http", "https"):  # ? begins a query
            return "*" in urlsplit(self.where).path
        return self.remote or not Path(self.where).exists()

    def beside(self, name: str) -> Place:
        """A place in the same folder, or the one that an absolute path or address names."""
        if scheme_of(name) is not None:
            return Place.of(name)
        if self.remote:
            return Place.of(f"{self.where.rpartition('/')[0]}/{name}")
        return Place.of(Path(self.where).parent / name)

    def filesystem(self) -> tuple[Any, str]:
        """The file system of an address, and the path in it.

        Raises:
            SourceError: it cannot be reached.
        """
        from fsspec.core import url_to_fs

        try:
            return url_to_fs(self.where)  # type: ignore[no-any-return]
        except Exception as error:  # each file system raises its own
            raise self.failure(error) from None

    def open(self, mode: str = "rb") -> IO[bytes]:
        """Open the file for reading; SourceError if that fails."""
        assert mode == "rb"
        try:
            if not self.remote:
                return Path(self.where).open("rb")
            system, path = self.filesystem()
            return system.open(path, "rb")  # type: ignore[no-any-return]
        except SourceError:
            raise
        except Exception as error:
            raise self.failure(error) from None

    def read(self, most: int) -> bytes:
        """Content of the file. That of an address is tried again if the connection fails.

        Raises:
            SourceError: it cannot be read, or has more than `most` bytes.
        """
        for attempt in range(1, _ATTEMPTS + 1):
            try:
                with self.open() as file:
                    content = file.read(most + 1)
                break
            except Exception as error:
                if _is_final(error.__context__ or error) or attempt == _ATTEMPTS or not self.remote:
                    raise error if isinstance(error, SourceError) else self.failure(error) from None
                time.sleep(_PAUSE * attempt)
        if len(content) > most:
            raise SourceError(f"{self} has more than {most} bytes. Make it smaller.")
        return content

    def stamped(self) -> Place:
        """The same place with its stamp; SourceError if there is no file."""
        try:
            if not self.remote:
                status = Path(self.where).stat()
                return replace(self, stamp=f"{status.st_size} {status.st_mtime_ns}")
            system, path = self.filesystem()
            return replace(self, stamp=_stamp(system.info(path)))
        except SourceError:
            raise
        except Exception as error:
            raise self.failure(error) from None

    def is_folder(self) -> bool:
        """Whether it is one; SourceError if it cannot be reached."""
        if not self.remote:
            return Path(self.where).is_dir()
        if scheme_of(self.where) in ("http", "https"):  # a server's page of links is none
            return False
        system, path = self.filesystem()
        try:
            return bool(system.isdir(path))
        except Exception as error:
            raise self.failure(error) from None

    def entries(self) -> tuple[list[Place], int]:
        """Files of a folder, or those that a glob matches, in natural order; number of folders."""
        try:
            return self._local() if not self.remote else self._listed()
        except SourceError:
            raise
        except Exception as error:
            raise self.failure(error) from None

    def failure(self, error: Exception) -> SourceError:
        """The error for what a file system raised."""
        found = _underlying(error)
        reason = getattr(found, "strerror", None) or first_line(found)
        if isinstance(found, FileNotFoundError):  # some say no more than the address
            reason = "it does not exist"
        elif (status := getattr(found, "status", None)) is not None:
            reason = f"the server says {status} {getattr(found, 'message', '')}".rstrip()
        told = printable(redacted(str(reason))).rstrip(".")
        return SourceError(f"{self} cannot be read: {told}.")

    def _local(self) -> tuple[list[Place], int]:
        if self.is_glob:
            found = [Path(name) for name in glob.glob(self.where, recursive=True)]  # noqa: PTH207
        else:
            found = list(Path(self.where).iterdir())
        files = [path for path in found if not path.is_dir()]
        places = [Place(str(path)) for path in sorted(files, key=natural_key)]
        return [_stamped_if_there(place) for place in places], len(found) - len(files)

    def _listed(self) -> tuple[list[Place], int]:
        system, path = self.filesystem()
        if self.is_glob:
            infos = list(system.glob(path, detail=True).values())
        else:
            infos = [each for each in system.ls(path, detail=True) if each["name"] != path]
        files = [info for info in infos if info["type"] == "file"]
        places = [Place(str(system.unstrip_protocol(info["name"])), _stamp(info)) for info in files]
        return sorted(places, key=lambda place: natural_key(place.where)), len(infos) - len(files)


def _underlying(error: BaseException) -> BaseException:
    """What fsspec's HTTP calls a missing file, whatever happened."""
    cause = error.__cause__
    if not isinstance(error, FileNotFoundError) or cause is None:
        return error
    if getattr(cause, "status", _MISSING[0]) in _MISSING and not isinstance(cause, OSError):
        return error
    return cause


def _is_final(error: BaseException) -> bool:
    """Whether another attempt does not mend it."""
    found = _underlying(error)
    status = getattr(found, "status", None)
    return isinstance(found, _FINAL) or (status is not None and status < 500 and status != 429)


def _stamped_if_there(place: Place) -> Place:
    """A link that leads nowhere is listed too; reading it says so."""
    try:
        return place.stamped()
    except SourceError:
        return place


def _stamp(info: Mapping[str, Any]) -> str:
    changes = [str(info[key]) for key in _CHANGES if info.get(key) is not None]
    return " ".join([str(info.get("size")), *changes[:1]])


def _check_scheme(scheme: str) -> None:
    """Refuse addresses that no installed package opens."""
    if not is_installed("fsspec"):
        raise MissingDependencyError("fsspec")
    from fsspec import get_filesystem_class
    from fsspec.registry import known_implementations

    try:
        get_filesystem_class(scheme)
    except ValueError:
        raise UsageError(
            f"{scheme}:// is not supported. Pass a path, or an address such as s3://, gs:// or "
            "https://."
        ) from None
    except ImportError as error:
        advice = known_implementations.get(scheme, {}).get("err") or first_line(error)
        raise SourceError(f"{scheme}:// needs another package: {advice}.") from None
