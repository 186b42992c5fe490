"""Picture files: a directory of masks or overlays, or the overlay of a single image."""

from __future__ import annotations

import io
import re
from collections.abc import Iterable
from contextlib import ExitStack
from pathlib import Path

import numpy as np
from PIL import Image

from edgeunet.data.tiff import Georeference
from edgeunet.errors import UsageError
from edgeunet.files import check_directory, check_file, locked, write_bytes
from edgeunet.listing import IMAGE_SUFFIXES
from edgeunet.metrics import Mask

from ..frames import Frame, Segmented
from .base import Sink
from .overlay import Palette, colour_table, overlay
from .written import WrittenFiles

PICTURE_SUFFIXES = frozenset({".png", ".jpg", ".jpeg"})

_PAGE = re.compile(r"(.+)#(\d+)", re.DOTALL)  # of a file with several


class MaskDirectory(Sink):
    """Writes one PNG of class ids for each frame; see `encode_mask` and `picture_name`.

    Frames with a georeference become GeoTIFFs, with the same ids and colours.

    Args:
        sources: the files that are read. Two images of one name but for the suffix are refused.
        force: use a directory that holds something. Files that an earlier run wrote there are
            removed; others are neither removed nor replaced.

    Raises:
        UsageError: two sources would become one file, or a file is there that is not ours.
        OutputExistsError: the directory holds something and `force` is false.
        OutputError: another run writes into the directory.
    """

    def __init__(
        self, path: Path, *, palette: Palette, sources: Iterable[Path] = (), force: bool = False
    ) -> None:
        check_directory(path, force=force)
        names = picture_names(sources)
        path.mkdir(parents=True, exist_ok=True)
        self.path, self._palette = path, palette
        with ExitStack() as stack:
            # Inside: whoever may write into the directory need not be allowed to write beside it.
            stack.enter_context(locked(path, lock=path / ".edgeunet.lock"))
            self._files = stack.enter_context(WrittenFiles(path, names=names))
            self._stack = stack.pop_all()

    def write(self, segmented: Segmented) -> None:
        """Write the next picture."""
        suffix, content = _encoded(self._drawn(segmented), segmented)
        name = picture_name(segmented.frame.name, segmented.frame.index)
        self._files.write(name.removesuffix(".png") + suffix, content)

    def close(self) -> None:
        """Give the directory free; a second call does nothing."""
        self._stack.close()

    def _drawn(self, segmented: Segmented) -> Image.Image:
        return _mask_picture(segmented.mask, self._palette)


class OverlayDirectory(MaskDirectory):
    """Writes each frame, under half-transparent class colours, as `MaskDirectory` does."""

    def _drawn(self, segmented: Segmented) -> Image.Image:
        return Image.fromarray(overlay(segmented.frame.picture, segmented.mask, self._palette))


class OverlayPicture(Sink):
    """Writes the overlay of one image as PNG or JPEG, when it is closed.

    Raises:
        UsageError: a directory is in its place; while writing, a second frame, and then nothing is
            written. OutputExistsError: the file exists and `force` is false.
        OutputError: another run writes the file.
    """

    def __init__(self, path: Path, *, palette: Palette, force: bool = False) -> None:
        check_file(path, force=force)
        path.parent.mkdir(parents=True, exist_ok=True)
        self.path, self._palette = path, palette
        self._picture: Frame | None = None
        with ExitStack() as stack:
            stack.enter_context(locked(path))
            self._stack = stack.pop_all()

    def write(self, segmented: Segmented) -> None:
        """Keep the picture."""
        if self._picture is not None:
            self._picture = None
            self._stack.close()
            raise several_frames(self.path)
        self._picture = overlay(segmented.frame.picture, segmented.mask, self._palette)

    def close(self) -> None:
        """Write the picture, if there is one; a second call does nothing."""
        with self._stack:
            if self._picture is not None:
                write_bytes(self.path, encode_picture(self._picture, self.path.suffix.lower()))
            self._picture = None


def several_frames(path: Path) -> UsageError:
    """The error for a source of several frames whose output is one picture."""
    return UsageError(
        f"{path} is one picture, but the source has several frames. Write a video, such as "
        f"{path.with_suffix('.mp4')}, or a directory: -o {path.with_suffix('')} --overlay."
    )


def picture_name(name: str, index: int) -> str:
    """File name of the picture of a frame.

    Args:
        name: of the frame's file; page 2 of `a.tif` is `a.tif#2`. Empty: it has none.
        index: its number, which names frames of videos and cameras.

    Example:
        >>> from edgeunet.runtime.sinks.pictures import picture_name
        >>> picture_name("a.jpg", 7), picture_name("a.tif#2", 7), picture_name("", 7)
        ('a.png', 'a-2.png', '000007.png')
    """
    found = _PAGE.fullmatch(name)
    file, page = (found[1], f"-{found[2]}") if found else (name, "")
    stem = Path(file).stem
    return f"{stem}{page}.png" if stem else f"{index:06d}.png"


def picture_names(sources: Iterable[Path]) -> set[str]:
    """Names of the pictures of image files; UsageError if two files would have the same."""
    named: dict[str, Path] = {}
    for file in sources:
        if file.suffix.lower() not in IMAGE_SUFFIXES:  # frames of videos have numbers
            continue
        name = picture_name(file.name, 0)
        if name in named:
            raise UsageError(
                f"{named[name]} and {file} would both be written as {name}. Rename one, run them "
                "one after the other into two directories, or write NAME.jsonl."
            )
        named[name] = file
    return set(named)


def encode_mask(mask: Mask, palette: Palette) -> bytes:
    """8-bit PNG with a palette: the index of a pixel is its class id, its colour the class's.

    255, which means "no class", is white. Pillow and most tools read the indices; OpenCV reads the
    colours.

    Args:
        mask: class ids (H, W). palette: RGB by class id.

    Example:
        >>> from pathlib import Path; from edgeunet.data.images import read_ids
        >>> from edgeunet.runtime.sinks import encode_mask
        >>> mask = np.array([[0, 1]], np.uint8)
        >>> _ = Path("mask.png").write_bytes(encode_mask(mask, [(0, 0, 0), (255, 0, 0)]))
        >>> read_ids(Path("mask.png")).tolist()
        [[0, 1]]
    """
    return _saved(_mask_picture(mask, palette), "PNG", compress_level=1)


def mask_file(segmented: Segmented, palette: Palette) -> tuple[str, bytes]:
    """Suffix and content of the file that holds a mask: `encode_mask`, or of a GeoTIFF GeoTIFF."""
    return _encoded(_mask_picture(segmented.mask, palette), segmented)


def encode_geotiff(picture: Image.Image, georeference: Georeference) -> bytes:
    """A picture as TIFF that lies where a GeoTIFF of the same size lies."""
    # Pillow writes floats as doubles, whole numbers as shorts and texts as ASCII, which is right.
    options = {"tiffinfo": georeference.tags, "compression": "tiff_adobe_deflate"}
    return _saved(picture, "TIFF", **options)


def encode_picture(picture: Frame, suffix: str) -> bytes:
    """An RGB picture (H, W, 3) as PNG, or as JPEG for `.jpg` and `.jpeg`."""
    opened = Image.fromarray(picture)
    if suffix == ".png":
        return _saved(opened, "PNG", compress_level=1)
    return _saved(opened, "JPEG", quality=92, subsampling=0)  # class colours have sharp edges


def _encoded(picture: Image.Image, segmented: Segmented) -> tuple[str, bytes]:
    if segmented.frame.georeference is None:
        return ".png", _saved(picture, "PNG", compress_level=1)
    return ".tif", encode_geotiff(picture, segmented.frame.georeference)


def _mask_picture(mask: Mask, palette: Palette) -> Image.Image:
    """Class ids (H, W) with the colours of their classes."""
    ids = np.ascontiguousarray(mask)
    picture = Image.frombuffer("P", (ids.shape[1], ids.shape[0]), ids, "raw", "P", 0, 1)
    picture.putpalette(colour_table(palette).tobytes())
    return picture


def _saved(picture: Image.Image, kind: str, **options: object) -> bytes:
    file = io.BytesIO()
    picture.save(file, kind, **options)
    return file.getvalue()
