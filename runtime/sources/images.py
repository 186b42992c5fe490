"""Image files as a source."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from pathlib import Path

from edgeunet.data.images import read_image

from ..frames import SourceFrame, SourceInfo
from .base import Source


class Images(Source):
    """Image files, in the given order.

    Raises:
        SourceError: while reading, a file that is not an image.
    """

    def __init__(self, files: Sequence[Path]) -> None:
        super().__init__()
        self.files = files
        self.info = SourceInfo(len(files), None)

    def _read(self) -> Generator[SourceFrame, None, None]:
        for index, path in enumerate(self.files):
            yield SourceFrame(index, path.name, read_image(path))
