"""Text files that grow by whole lines: what stands in them can be read while the run goes on."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from edgeunet.files import check_file, claim

from ..pipeline.stopping import Closing


class LineFile(Closing):
    """A file to which text of one or several lines is added at once; none is left half-written.

    Raises:
        UsageError: a directory is in its place. OutputExistsError: the file exists and `force` is
            false. OutputError: another run writes the file.
    """

    def __init__(self, path: Path, *, force: bool = False) -> None:
        check_file(path, force=force)
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = path.open("ab", buffering=0)  # truncated only once it is ours alone
        try:
            claim(self._file.fileno(), path)
            if path.is_file():  # a named pipe cannot be truncated
                self._file.truncate(0)
        except BaseException:
            self._file.close()
            raise
        self._end = 0  # of the last whole text, in bytes

    def write(self, text: str) -> None:
        """Add text that ends with a line end; OSError if the disk is full."""
        content = text.encode()
        rest = memoryview(content)
        try:
            # A nearly full disk takes a part without an error, and the next write fails.
            while rest:
                rest = rest[self._file.write(rest) :]
        except OSError:
            with suppress(OSError):  # a named pipe cannot be truncated
                self._file.truncate(self._end)
            raise
        self._end += len(content)

    def close(self) -> None:
        """Close the file."""
        self._file.close()
