"""Units of work: the part of an archive, table or list of images that a worker does at once."""

from __future__ import annotations

import json
import posixpath
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

from edgeunet.errors import FrameError, SourceError, UsageError, printable

from ..frames import NOTHING_IGNORED, Ignored
from ..pipeline.stopping import Closing
from .archives import LARGEST_MEMBER, Archive, open_archive
from .images import Images, StoredImage
from .parquet import SUFFIXES as TABLE_SUFFIXES
from .parquet import ParquetImages
from .places import Place
from .redaction import redacted

Kind = Literal["files", "members", "rows", "whole"]

AHEAD = 8
"""Addresses that are read at the same time: a request takes longer than an image."""


@dataclass(frozen=True)
class Unit:
    """Some images of an input.

    kind: "files" on disk or at addresses; "members" of an archive; "rows" of a table, in whole row
    groups; a "whole" archive or table.
    where: the archive or table, or the folder that the names of files are in, "" for none.
    stamp: that of the archive or table, see `Place`. names: of files or members. stamps: of files.
    start, stop: the members in the archive's order, or the row groups.
    images: number of images, None if that is not known before the archive is read.
    column: of the table.

    Example:
        >>> from edgeunet.runtime.sources.units import Unit
        >>> unit = Unit("files", "day", names=("1.jpg", "2.jpg"), images=2)
        >>> Unit.from_json(unit.to_json()) == unit
        True
    """

    kind: Kind
    where: str
    stamp: str = ""
    names: tuple[str, ...] = ()
    stamps: tuple[str, ...] = ()
    start: int = 0
    stop: int = 0
    images: int | None = None
    column: str | None = None

    def to_json(self) -> str:
        """As ASCII text, also if names are no Unicode."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Unit:
        """Inverse of `to_json`."""
        values = json.loads(text)
        return cls(**{**values, "names": tuple(values["names"]), "stamps": tuple(values["stamps"])})

    def record(self) -> dict[str, Any]:
        """For a plan that others may read: without passwords."""
        record = asdict(self)
        names = [redacted(name) if "://" in name else name for name in self.names]
        lists = {"names": names, "stamps": list(self.stamps)}  # as JSON gives them back
        return {**record, "where": str(Place(self.where)), **lists}


@dataclass(frozen=True)
class Fault:
    """An image or archive that cannot be read. name: in the input. reason: in words."""

    name: str
    reason: str


class UnitImages(Images):
    """The images of a unit, each with its path in the input as name.

    Those that cannot be read are left out. faults: all of them.
    """

    def __init__(
        self, images: Sequence[StoredImage], *, ignored: Ignored, faults: Sequence[Fault] = ()
    ) -> None:
        super().__init__([], ignored=ignored)
        self.faults = list(faults)
        self._images = images  # not given above: a single one would be read to count its pages

    def _report(self, error: SourceError | FrameError) -> None:
        self.faults.append(Fault(printable(self._at), str(error)))

    def _conclude(self, images: int) -> None:
        pass  # `faults` says it


class UnitReader(Closing):
    """Opens units one after the other, and keeps their archive open for the next.

    Example:
        >>> import cv2; from edgeunet.runtime.sources.units import Unit, UnitReader
        >>> _ = cv2.imwrite("a.png", frame)
        >>> with UnitReader() as reader:
        ...     [each.name for each in reader.open(Unit("files", ".", names=("a.png",), images=1))]
        ['a.png']
    """

    def __init__(self) -> None:
        self._archive: Archive | None = None
        self._opened: tuple[str, str] | None = None  # place and stamp of the archive
        self._table: ParquetImages | None = None
        self._pool: ThreadPoolExecutor | None = None

    def open(self, unit: Unit) -> UnitImages:
        """The images of a unit, to be read before the next is opened.

        An archive or table that cannot be read is a fault of its own.

        Raises:
            SourceError: the input is not what was planned, or not on this machine.
        """
        if unit.kind == "files":
            return UnitImages(self._files(unit), ignored=NOTHING_IGNORED)
        place = Place.of(unit.where)
        if (found := place.stamped().stamp) != unit.stamp:
            raise SourceError(
                f"{place} was changed since the run was planned: it has '{found}' (bytes, time), "
                f"expected '{unit.stamp}'. Start over with --force."
            )
        try:
            if place.name.lower().endswith(TABLE_SUFFIXES):
                return UnitImages(self._rows(unit, place), ignored=NOTHING_IGNORED)
            archive = self._of(place, unit)
        except (SourceError, UsageError) as error:  # a table without the column
            fault = Fault(printable(place.name), str(error))
            return UnitImages([], ignored=NOTHING_IGNORED, faults=[fault])
        ignored = archive.ignored if unit.kind == "whole" else NOTHING_IGNORED  # planned: counted
        return UnitImages(self._members(unit, archive), ignored=ignored)

    def close(self) -> None:
        """Close what is open."""
        self._opened = None
        for each in (self._archive, self._table):
            if each is not None:
                each.close()
        self._archive = self._table = None
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)
            self._pool = None

    def _files(self, unit: Unit) -> list[StoredImage]:
        folder = Place(unit.where)
        if unit.where and not folder.remote and not folder.is_folder():
            raise SourceError(
                f"{folder} is no folder on this machine. Workers read the input by its path: put it"
                " where all of them find it."
            )
        places = [Place.of(_within(unit.where, name)) for name in unit.names]
        reads: list[Callable[[], bytes]] = [partial(place.read, LARGEST_MEMBER) for place in places]
        if any(place.remote for place in places):
            self._pool = self._pool or ThreadPoolExecutor(AHEAD, thread_name_prefix="edgeunet-get")
            ahead = _Ahead(self._pool, reads)
            reads = [partial(next, ahead)] * len(reads)
        return [
            StoredImage(_name_of(name), str(place), read)
            for name, place, read in zip(unit.names, places, reads, strict=True)
        ]

    def _of(self, place: Place, unit: Unit) -> Archive:
        if self._opened != (unit.where, unit.stamp) or self._archive is None:
            self.close()
            self._archive = open_archive(place)
            self._opened = unit.where, unit.stamp
        return self._archive

    def _members(self, unit: Unit, archive: Archive) -> list[StoredImage]:
        members = archive.members
        if unit.kind == "members":
            members = members[unit.start : unit.stop]
            if tuple(member.name for member in members) != unit.names:
                raise SourceError(
                    f"{archive.name} was changed since the run was planned. Start over with "
                    "--force."
                )
        return [
            StoredImage(
                member.name,
                printable(f"{archive.name}:{member.name}"),
                partial(archive.read, member),
            )
            for member in members
        ]

    def _rows(self, unit: Unit, place: Place) -> list[StoredImage]:
        if self._opened != (unit.where, unit.stamp) or self._table is None:
            self.close()
            self._table = ParquetImages(place, unit.column)
            self._opened = unit.where, unit.stamp
        if unit.kind == "whole":
            return self._table.images()
        return self._table.images(unit.start, unit.stop)


def _within(folder: str, name: str) -> str:
    if not folder or "://" in name:
        return name
    return f"{folder.rstrip('/')}/{name}" if "://" in folder else str(Path(folder, name))


def _name_of(name: str) -> str:
    """A frame's name: the path in the input, without host, user and query of an address."""
    if "://" not in name:
        return posixpath.relpath(name, "/") if name.startswith("/") else name
    path = redacted(name).split("://", 1)[1].rpartition("@")[2].partition("?")[0]
    return path.partition("/")[2] or path


class _Ahead(Iterator[bytes]):
    """Results in order, of which some are computed before they are asked for.

    Unlike a generator, it goes on after the error of one of them.
    """

    def __init__(self, pool: ThreadPoolExecutor, reads: Sequence[Callable[[], bytes]]) -> None:
        self._pool, self._reads = pool, iter(reads)
        self._waiting: deque[Future[bytes]] = deque()

    def __next__(self) -> bytes:
        while len(self._waiting) < AHEAD and (read := next(self._reads, None)) is not None:
            self._waiting.append(self._pool.submit(read))
        return self._waiting.popleft().result()
