"""Image files, and images in archives, as a source."""

from __future__ import annotations

import logging
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from edgeunet.data.images import (
    MOST_PAGES,
    Picture,
    count_pages,
    decode,
    opened,
    read_bytes,
)
from edgeunet.errors import FrameError, SourceError, printable

from ..frames import NOTHING_IGNORED, Ignored, SourceFrame, SourceInfo
from ..pipeline.stopping import Closing
from .archives import Archive
from .base import Source

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class StoredImage:
    """An image that is not read yet. name: of its frame. where: for errors. read: its content."""

    name: str
    where: str
    read: Callable[[], bytes]


def image_files(files: Iterable[Path]) -> list[StoredImage]:
    """Image files on disk."""
    return [StoredImage(path.name, printable(path), partial(read_bytes, path)) for path in files]


def archived_images(archive: Archive) -> list[StoredImage]:
    """The images of an archive, in its order."""
    return [
        StoredImage(
            member.file_name,
            printable(f"{archive.name}:{member.name}"),
            partial(archive.read, member),
        )
        for member in archive.members
    ]


class Images(Source):
    """Images in the given order. Each page of a TIFF and each frame of an animation is a frame.

    A frame has its file's name; of a file with several pages, also the page's number from 1, as in
    `stack.tif#2`. One page is in memory at a time, beside its file's content.

    An image that cannot be read is named in a warning and left out, and the others are read. Behind
    the last of them, an error says how many are missing.

    Args:
        files: those of the images; in an archive, as if it were a folder.
        ignored: what lies beside them.
        skip_damaged: raise no error for images that were left out, unless none is left.
        holder: what to close at the end, such as the archive.

    Raises:
        SourceError: after the last frame, as said; or at once if there is one image only.

    Example:
        >>> import cv2; from pathlib import Path
        >>> from edgeunet.runtime.sources.images import Images, image_files
        >>> _ = cv2.imwrite("a.png", frame)
        >>> [frame.name for frame in Images(image_files([Path("a.png")]))]
        ['a.png']
    """

    def __init__(
        self,
        images: Sequence[StoredImage],
        *,
        files: Sequence[Path] = (),
        ignored: Ignored = NOTHING_IGNORED,
        skip_damaged: bool = False,
        holder: Closing | None = None,
    ) -> None:
        super().__init__()
        self.files = files
        self.ignored = ignored
        # Those of a single file are counted here, those of many while they are read.
        count = _first_count(images[0]) if len(images) == 1 else len(images)
        self.info = SourceInfo(count, None)
        self._images = images
        self._skip_damaged = skip_damaged
        self._holder = holder
        self._at = ""  # name of the frame that is being read

    def _read(self) -> Generator[SourceFrame, None, None]:
        try:
            yield from self._decoded()
        finally:
            self._free()

    def _decoded(self) -> Iterator[SourceFrame]:
        index = 0
        for image in self._images:
            self._at = image.name
            try:
                content = image.read()
                pages = _pages(content, image.where)
            except SourceError as error:
                self._report(error)
                index += 1
                continue
            if pages > 1 and len(self._images) > 1:
                self.info = replace(self.info, frames=self.info.frames + pages - 1)
            reader = opened(content) if pages > 1 else None
            for page in range(pages):
                number = f"#{page + 1}" if pages > 1 else ""
                where, self._at = image.where + number, image.name + number
                try:
                    decoded = [decode(content, name=where, page=page, reader=reader)]
                except SourceError as error:
                    self._report(error)
                else:
                    # Popped, because a name here would hold a large image while the net runs.
                    yield _frame_of(decoded.pop(), index, self._at)
                index += 1
        self._conclude(index)

    def reject(self, error: FrameError) -> None:
        """See `Source`: as an image that cannot be read."""
        self._report(error)

    def _report(self, error: SourceError | FrameError) -> None:
        if self.info.frames == 1:
            raise error
        _log.warning("%s", error)
        self._leave_out(str(error))

    def _conclude(self, images: int) -> None:
        """Say how many of the images are missing, behind the last of them."""
        if self.skipped == images or (self.skipped and not self._skip_damaged):
            raise SourceError(_conclusion(self.skipped, images, self.damaged[0]))

    def _free(self) -> None:
        if self._holder is not None:
            self._holder.close()


def _frame_of(picture: Picture, index: int, name: str) -> SourceFrame:
    return SourceFrame(
        index,
        name,
        picture.pixels,
        channels=picture.channels,
        georeference=picture.georeference,
    )


def _pages(content: bytes, where: str) -> int:
    """Pages of a file; SourceError if there are more than can be counted."""
    pages = count_pages(content)
    if pages >= MOST_PAGES:
        raise SourceError(f"{where} holds {MOST_PAGES} or more pages. Split it.")
    return pages


def _first_count(image: StoredImage) -> int:
    """Pages of a file, 1 if it cannot be read: reading it says why."""
    try:
        return _pages(image.read(), image.where)
    except SourceError:
        return 1


def _conclusion(damaged: int, images: int, first: str) -> str:
    if damaged == images:
        return f"none of {images} images can be read. The first: {first}"
    return (
        f"{damaged} of {images} images cannot be read; the others are done. The first: {first} "
        "--skip-damaged takes such images out without an error."
    )
