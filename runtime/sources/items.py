"""What a large input holds, cut into units of work."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from edgeunet.errors import SourceError, UsageError
from edgeunet.listing import IMAGE_SUFFIXES

from ..frames import NOTHING_IGNORED, Ignored
from .archives import ARCHIVE_SUFFIXES, is_archive, open_archive
from .containers import VIDEO_SUFFIXES
from .parquet import SUFFIXES as TABLE_SUFFIXES
from .parquet import ParquetImages
from .places import Place
from .ros import is_bag
from .units import Unit

_log = logging.getLogger(__name__)

UNIT = 500
"""Images of a unit: some seconds or minutes of work, and a file of some MB."""

MOST_OPENED = 100
"""Archives and tables that are opened to plan the work. Of more than these, each is a unit."""

MOST_IMAGES = 10_000_000
"""Images that a plan names. More are packed in archives, of which the plan names only those."""

_LARGEST_LIST = 1 << 30
_LIST = ".txt"


@dataclass(frozen=True)
class Items:
    """The images of an input. ignored: what is not read of it."""

    units: tuple[Unit, ...]
    ignored: Ignored

    @property
    def images(self) -> int | None:
        """Number of images, None if it is not known before all archives are read."""
        counts = [unit.images for unit in self.units]
        known = [count for count in counts if count is not None]
        return sum(known) if len(known) == len(counts) else None


def list_items(
    sources: str | Path | Sequence[str | Path], *, column: str | None = None, size: int = UNIT
) -> Items:
    """List the images of paths and addresses, and cut them into units of about `size` images.

    Images come in natural order, before archives and tables. An archive or table is cut too, into
    members or row groups, unless it is one of more than `MOST_OPENED`, or a compressed tar, which
    can only be read from its start. What depends on the number of workers is not decided here.

    Args:
        sources: one or several of: an image, a folder of images or of archives and tables, a ZIP
            or TAR archive, a Parquet table, a `.txt` of paths and addresses one a line (those that
            begin with # are left out), or a glob; on this machine, or an address for fsspec.
        column: of the images in tables, see `ParquetImages`.

    Raises:
        SourceError: missing, empty, or not of these; or more than `MOST_IMAGES`.
        UsageError: a camera or video, or a column that does not fit.
        MissingDependencyError: fsspec or pyarrow is not installed.

    Example:
        >>> import cv2; from edgeunet.runtime.sources.items import list_items
        >>> for name in ("10.png", "9.png", "8.png"): _ = cv2.imwrite(name, frame)
        >>> [unit.names for unit in list_items(".", size=2).units]
        [('8.png', '9.png'), ('10.png',)]
    """
    given = [sources] if isinstance(sources, (str, Path)) else list(sources)
    found = [_listing(Place.of(each)) for each in given]
    ignored = sum((each.ignored for each in found), NOTHING_IGNORED)
    packed = [place for each in found for place in each.packed]
    if column is not None and not any(_is_table(place) for place in packed):
        raise UsageError("--column names a column of Parquet tables, and the input has none.")
    if (count := sum(len(each.images) for each in found)) > MOST_IMAGES:
        raise SourceError(
            f"the input lists {count} images one by one; expected at most {MOST_IMAGES}. Pack them "
            "in tar archives of some thousand images, and pass a glob or list of those."
        )
    units: list[Unit] = []
    for each in found:
        units += each.units(size)
    packed = [place if place.stamp else place.stamped() for place in packed]
    for place in packed:
        if len(packed) > MOST_OPENED:
            units.append(Unit("whole", place.where, place.stamp, column=column))
            continue
        cut, beside = _cut(place, column, size, alone=len(packed) == 1 and not units)
        units += cut
        ignored += beside
    if told := str(ignored):
        _log.warning("not read: %s.", told)
    return Items(tuple(units), ignored)


@dataclass(frozen=True)
class _Listing:
    """Images, and archives and tables, at one path or address. root: the images' folder."""

    root: str = ""
    images: tuple[Place, ...] = ()
    packed: tuple[Place, ...] = ()
    ignored: Ignored = NOTHING_IGNORED

    def units(self, size: int) -> list[Unit]:
        """The images in units."""
        skipped = len(self.root) + 1 if self.root else 0
        parts = [self.images[at : at + size] for at in range(0, len(self.images), size)]
        return [
            Unit(
                "files",
                self.root,
                names=tuple(place.where[skipped:] for place in part),
                stamps=tuple(place.stamp for place in part),
                images=len(part),
            )
            for part in parts
        ]


def _listing(place: Place) -> _Listing:
    if not place.remote and is_bag(Path(place.where)):
        raise UsageError(f"{place} is a bag, which one worker reads. Run it without --workers.")
    if place.is_glob or place.is_folder():
        return _sorted_out(place)
    if not place.remote and not Path(place.where).exists():
        raise SourceError(f"{place} does not exist.")
    if place.suffix == _LIST:
        return _listed_in(place)
    if _is_packed(place):
        return _Listing(packed=(place,))
    if place.suffix in VIDEO_SUFFIXES:
        raise UsageError(f"{place} is a video, which one worker reads. Run it without --workers.")
    if place.suffix not in IMAGE_SUFFIXES:
        ends = ", ".join([*ARCHIVE_SUFFIXES, *TABLE_SUFFIXES, _LIST])
        raise SourceError(f"{place} is neither a folder, an image nor one of {ends}.")
    return _rooted([place.stamped()])


def _sorted_out(place: Place) -> _Listing:
    """What a folder holds, or a glob matches: images, else archives and tables."""
    files, folders = place.entries()
    hidden = [each for each in files if each.name.startswith(".")]
    shown = [each for each in files if not each.name.startswith(".")]
    images = [each for each in shown if each.suffix in IMAGE_SUFFIXES]
    packed = [each for each in shown if _is_packed(each)]
    videos = [each for each in shown if each.suffix in VIDEO_SUFFIXES]
    if place.is_glob and videos:
        raise UsageError(
            f"{videos[0]} is a video, which one worker reads. Run it without --workers."
        )
    if not images and not packed:
        what = "matches" if place.is_glob else "holds"
        raise SourceError(
            f"{place} {what} no image, archive or table, but {len(shown)} other files and {folders}"
            f" folders; expected {', '.join(sorted(IMAGE_SUFFIXES))}, "
            f"{', '.join([*ARCHIVE_SUFFIXES, *TABLE_SUFFIXES])}."
        )
    both = place.is_glob  # a folder of images may hold the archive that they came in
    read = len(images) + (len(packed) if both or not images else 0)
    ignored = Ignored(len(hidden), len(shown) - read + folders)
    listing = _rooted(images)
    if both or not images:
        listing = replace(listing, packed=tuple(packed))
    return replace(listing, ignored=ignored)


def _rooted(images: Sequence[Place]) -> _Listing:
    """Images with the folder that all of them are in."""
    folders = {place.where.rpartition("/")[0] for place in images}
    root = min(folders, default="")
    while root and not all(f"{folder}/".startswith(f"{root}/") for folder in folders):
        root = root.rpartition("/")[0]
    if any(place.remote for place in images) and "://" not in root:
        root = ""
    return _Listing(root, tuple(images))


def _listed_in(place: Place) -> _Listing:
    """The paths and addresses in a text file, as they stand there."""
    images: list[Place] = []
    packed: list[Place] = []
    for number, line in enumerate(_lines(place), 1):
        if not line or line.startswith("#"):
            continue
        try:
            each = place.beside(line)
        except (UsageError, SourceError) as error:
            raise type(error)(f"{place}, line {number}: {error}") from None
        if each.suffix in VIDEO_SUFFIXES:
            raise UsageError(f"{place}, line {number}: {each} is a video; expected images.")
        (packed if _is_packed(each) else images).append(each)
    if not images and not packed:
        raise SourceError(f"{place} has no line; expected a path or address in each.")
    return replace(_rooted(images), packed=tuple(packed))


def _lines(place: Place) -> Iterator[str]:
    try:
        text = place.read(_LARGEST_LIST).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise SourceError(
            f"{place} is no UTF-8 (at byte {error.start}); expected a path or address a line."
        ) from None
    return (line.strip() for line in text.split("\n"))


def _cut(place: Place, column: str | None, size: int, *, alone: bool) -> tuple[list[Unit], Ignored]:
    """Units of an archive or table, and what is not read of it."""
    whole = Unit("whole", place.where, place.stamp, column=column if _is_table(place) else None)
    try:
        if _is_table(place):
            return _rows(place, column, size), NOTHING_IGNORED
        if place.suffix not in (".zip", ".tar"):
            return [whole], NOTHING_IGNORED
        with open_archive(place) as archive:
            names = [member.name for member in archive.members]
            ignored = archive.ignored
    except SourceError:
        if alone:
            raise
        return [whole], NOTHING_IGNORED  # the worker says what is wrong, and the others are done
    units = [
        Unit(
            "members",
            place.where,
            place.stamp,
            names=tuple(names[at : at + size]),
            start=at,
            stop=min(at + size, len(names)),
            images=len(names[at : at + size]),
        )
        for at in range(0, len(names), size)
    ]
    return units, ignored


def _rows(place: Place, column: str | None, size: int) -> list[Unit]:
    with ParquetImages(place, column) as table:
        rows, column = table.rows, table.column
    if not sum(rows):
        raise SourceError(f"{place} has no row.")
    units: list[Unit] = []
    start = count = 0
    for stop, more in enumerate(rows, 1):
        count += more
        if count >= size or stop == len(rows):
            if count:
                part = Unit("rows", place.where, place.stamp, start=start, stop=stop)
                units.append(replace(part, images=count, column=column))
            start, count = stop, 0
    return units


def _is_packed(place: Place) -> bool:
    return is_archive(place) or _is_table(place)


def _is_table(place: Place) -> bool:
    return place.suffix in TABLE_SUFFIXES
