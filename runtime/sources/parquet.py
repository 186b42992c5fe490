"""Images in a column of Parquet files, read one at a time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import PurePosixPath
from typing import Any

from edgeunet.errors import MissingDependencyError, SourceError, UsageError, first_line, printable
from edgeunet.extras import is_installed

from ..pipeline.stopping import Closing
from .archives import ANY_GROWTH, LARGEST_MEMBER, MOST_GROWTH
from .images import StoredImage
from .places import Place

SUFFIXES = (".parquet", ".pq")
"""Ends of names, in lower case, of files that are read as Parquet."""

# Rows that are unpacked at once, and bytes that are read at once.
_ROWS, _BUFFER = 16, 1 << 20
_LONGEST_NAME = 1000


class ParquetImages(Closing):
    """Encoded images in a column of a Parquet file: bytes, or Hugging Face's {bytes, path}.

    A path is a name here; no file is read by it.

    column: name of the column. rows: number of rows of each row group.

    Args:
        column: as above; None: the only one that can hold images.

    Raises:
        UsageError: no such column, or several could be meant.
        SourceError: it cannot be read as Parquet, or has no column of images.
        MissingDependencyError: pyarrow is not installed.
    """

    def __init__(self, place: Place, column: str | None = None) -> None:
        if not is_installed("pyarrow"):
            raise MissingDependencyError("pyarrow")
        from pyarrow.parquet import ParquetFile

        self.place = place
        self._file = place.open()
        try:
            # Reads parts of a column, not all that a row group has of it.
            self._parquet = ParquetFile(self._file, buffer_size=_BUFFER, pre_buffer=False)
            schema = self._parquet.schema_arrow
        except Exception as error:
            self.close()
            raise SourceError(
                f"{place} cannot be read as Parquet: {printable(first_line(error)).rstrip('.')}."
            ) from None
        try:
            self.column = _column(schema, column, place)
            self._is_struct = _is_struct(schema.field(self.column).type)
        except (SourceError, UsageError):
            self.close()
            raise
        metadata = self._parquet.metadata
        self.rows = [metadata.row_group(index).num_rows for index in range(metadata.num_row_groups)]

    def images(self, start: int = 0, stop: int | None = None) -> list[StoredImage]:
        """The images of some row groups, to be read once and in order.

        Raises:
            SourceError: their names cannot be read.
        """
        groups = range(len(self.rows))[start:stop]
        first = sum(self.rows[:start])
        images: list[StoredImage] = []
        for group in groups:
            reader = _Rows(self, group)
            for row, name in enumerate(self._names(group)):
                number = first + len(images)
                inside = name or f"{PurePosixPath(self.place.name).stem}/{number:08d}"
                where = printable(f"{self.place}:row {number}{name and f' ({name})'}")
                images.append(StoredImage(inside, where, partial(reader.read, row, where)))
        return images

    def values(self, group: int) -> Iterator[Any]:
        """Bytes of each row of a row group, None for a row without."""
        self._check_growth(group)
        columns = [f"{self.column}.bytes" if self._is_struct else self.column]
        for batch in self._parquet.iter_batches(
            _ROWS, row_groups=[group], columns=columns, use_threads=False
        ):
            found = batch.column(self.column)  # one with a dot in its name may come too
            if self._is_struct:
                found = found.field("bytes")
            for value in found:
                yield value.as_buffer() if value.is_valid else None

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _names(self, group: int) -> Sequence[str]:
        """A name for each row, "" if the file has none."""
        count = self.rows[group]
        paths = f"{self.column}.path"
        if not self._is_struct or not any(
            self._parquet.schema.column(index).path == paths
            for index in range(len(self._parquet.schema))
        ):
            return [""] * count
        try:
            table = self._parquet.read_row_group(group, [paths], use_threads=False)
            records = table.column(self.column).to_pylist()
        except Exception as error:
            raise SourceError(
                f"{self.place}: names of images in row group {group} cannot be read: "
                f"{printable(first_line(error))}"
            ) from None
        found = [record.get("path") if record else None for record in records]
        return [name[-_LONGEST_NAME:] if isinstance(name, str) else "" for name in found]

    def _check_growth(self, group: int) -> None:
        """Images hardly shrink: a row group that grows much more holds something else."""
        found = self._parquet.metadata.row_group(group)
        sizes = [
            (column.total_compressed_size, column.total_uncompressed_size)
            for column in map(found.column, range(found.num_columns))
            if f"{column.path_in_schema}.".startswith(f"{self.column}.")
        ]
        packed, unpacked = map(sum, zip(*sizes, strict=True))
        if unpacked > ANY_GROWTH + MOST_GROWTH * packed:
            raise SourceError(
                f"it unpacks {packed} bytes to {unpacked}, as no images do; expected encoded images"
            )


class _Rows:
    """Reads the rows of one row group in order."""

    def __init__(self, images: ParquetImages, group: int) -> None:
        self._values = images.values(group)
        self._row = -1
        self._value: Any = None
        self._broken: str | None = None

    def read(self, row: int, where: str) -> bytes:
        """The image of a row, not before the one that was read last."""
        while self._row < row and self._broken is None:
            try:
                self._value = next(self._values)
            except Exception as error:
                self._broken = printable(first_line(error)).rstrip(".")
            self._row += 1
        if self._broken is not None:
            raise SourceError(f"{where} cannot be read: {self._broken}.")
        if self._value is None:
            raise SourceError(f"{where} has no bytes; expected an encoded image.")
        if len(self._value) > LARGEST_MEMBER:
            raise SourceError(
                f"{where} has {len(self._value)} bytes; an image in a table has at most "
                f"{LARGEST_MEMBER}."
            )
        return bytes(self._value)


def _column(schema: Any, wanted: str | None, place: Place) -> str:
    """The column of images."""
    fitting = [field.name for field in schema if _is_binary(field.type) or _is_struct(field.type)]
    names = ", ".join(printable(field.name) for field in schema) or "none"
    if wanted is not None:
        if wanted in fitting and schema.names.count(wanted) == 1:
            return wanted
        kind = f"is {schema.field(wanted).type}" if schema.names.count(wanted) == 1 else "is none"
        raise UsageError(
            f"{place}: {printable(wanted)!r} {printable(kind)}; expected one column of bytes, or of"
            f" structs with bytes, among: {names}."
        )
    if len(fitting) == 1:
        return str(fitting[0])
    if fitting:
        listed = ", ".join(map(printable, fitting))
        raise UsageError(f"{place} has several columns of bytes: {listed}. Choose one: --column.")
    raise SourceError(
        f"{place} has no column of encoded images; expected bytes, or structs with bytes, among: "
        f"{names}."
    )


def _is_binary(kind: Any) -> bool:
    from pyarrow import types

    return bool(
        types.is_binary(kind)
        or types.is_large_binary(kind)
        or types.is_binary_view(kind)
        or types.is_fixed_size_binary(kind)
    )


def _is_struct(kind: Any) -> bool:
    """Whether it is Hugging Face's form of an image."""
    from pyarrow import types

    if not types.is_struct(kind):
        return False
    return kind.get_field_index("bytes") >= 0 and _is_binary(kind.field("bytes").type)
