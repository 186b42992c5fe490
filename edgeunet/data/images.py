"""The one reader of image files.

Files are read in Python, because OpenCV cannot open names that are not UTF-8, and decoded in
memory. OpenCV decodes the pixels: it keeps 16 bit and checks a PNG's checksums. Pillow reads
headers, counts pages, decodes those behind the first one of an animation, keeps the indices of a
palette, and says what is wrong with a file, which OpenCV writes to stderr only. Neither reports
damage within the pixels of a JPEG: libjpeg conceals it. TIFFs that neither of them reads are in
`tiff`.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
from PIL import ImageFile

from ..bundle.manifest import DEPTHS, RGB
from ..errors import SourceError
from . import tiff
from .cost import check_cost
from .headers import (
    FORMATS,
    Header,
    bits_of,
    complaint,
    count_pages,
    format_of,
    is_cut_off,
    is_turned,
    loses_values,
    opened,
    orientation_of,
    probe,
)
from .tiff import MOST_PAGES, MOST_VALUES, upright

__all__ = [
    "FORMATS",
    "MOST_PAGES",
    "RGB",
    "Header",
    "Picture",
    "Pixels",
    "Rgb",
    "count_pages",
    "decode",
    "decode_only",
    "is_turned",
    "opened",
    "probe",
    "read_bytes",
    "read_ids",
    "read_picture",
    "to_8bit",
]

Rgb = npt.NDArray[np.uint8]
"""(H, W, 3), 8 bit, RGB."""

Pixels = npt.NDArray[np.generic]

_log = logging.getLogger(__name__)
_BY_PILLOW = frozenset({"AVIF", "GIF"})


@dataclass(frozen=True, eq=False)
class Picture:
    """A decoded image, upright.

    pixels: (H, W, C) in the file's own depth, one of `DEPTHS`; may be a view with gaps.
    channels: a name for each, ("red", "green", "blue") or ("gray",), with "alpha" last if there is
    one; other names come from the file. () if the file does not name them.
    georeference: of a GeoTIFF.
    """

    pixels: Pixels
    channels: tuple[str, ...]
    georeference: tiff.Georeference | None = None


def decode(
    content: bytes, *, name: str, page: int = 0, reader: ImageFile.ImageFile | None = None
) -> Picture:
    """Decode an image file in its own depth, upright.

    Args:
        name: of the file, for errors.
        page: index of the page or frame, below `count_pages`.
        reader: the file in Pillow, see `headers.opened`, for all pages of an animation in turn. A
            new one would decode the frames before the page again.

    Raises:
        SourceError: not an image, no such page, truncated or damaged, of another depth, or refused
            by `check_cost`.
        MissingDependencyError: it needs tifffile, see `tiff`.

    Example:
        >>> import cv2; from edgeunet.data.images import decode
        >>> content = cv2.imencode(".png", frame[..., 0])[1].tobytes()
        >>> decode(content, name="gray.png").channels
        ('gray',)
    """
    kind = format_of(content)
    check_cost(content, kind, name=name)
    if page and reader is None and page >= (count := count_pages(content)):
        raise SourceError(f"{name} has {count} pages; expected a page below that, got {page}.")
    if kind == "JPEG" and is_cut_off(content):
        raise SourceError(f"{name} is truncated: it ends within the image.")
    if kind == "TIFF":
        found = _decode_tiff(content, page, name)
    elif page or kind in _BY_PILLOW:
        found = _decode_by_pillow(content, page, name, reader)
    else:
        found = _decode_by_opencv(content, kind, name)
    if found.pixels.dtype == np.float64:
        found = Picture(found.pixels.astype(np.float32), found.channels)
    if found.pixels.dtype.name not in DEPTHS:
        raise SourceError(
            f"{name} holds {found.pixels.dtype} values; expected {', '.join(DEPTHS)}. Save it as "
            "one of these."
        )
    if kind == "TIFF":
        found = replace(found, georeference=_georeference(content, page, name))
    return found


def decode_only(content: bytes, *, name: str) -> Picture:
    """Decode a file that must hold one image; errors as of `decode`, and for several pages."""
    if (pages := count_pages(content)) > 1:
        raise SourceError(
            f"{name} holds {pages if pages < MOST_PAGES else f'{pages} or more'} pages or frames; "
            "expected one image a file. Save each as a file of its own, or an animation as a video."
        )
    return decode(content, name=name)


def read_picture(path: Path) -> Picture:
    """Read an image file; errors as of `decode_only`."""
    return decode_only(read_bytes(path), name=str(path))


def to_8bit(pixels: Pixels) -> npt.NDArray[np.uint8]:
    """Scale 16 bit by 1/257, so that 65535 becomes 255; 8 bit stays as it is."""
    if pixels.dtype == np.uint16:
        # It rounds, and needs no FP32 copy of an image that may be large.
        scaled = cv2.convertScaleAbs(pixels, alpha=1 / 257)  # type: ignore[arg-type]
        return scaled.reshape(pixels.shape)  # type: ignore[return-value]  # OpenCV drops a 1
    return pixels  # type: ignore[return-value]


def read_ids(path: Path) -> npt.NDArray[np.generic]:
    """Read a mask as it is stored: indices of a palette, bool from 1 bit, else what it holds.

    Returns:
        (H, W), or RGB or other channels (H, W, C) from a file that holds colours instead of ids.

    Raises:
        SourceError: not an image, damaged, of several pages, turned by EXIF, in a format that
            changes values, or refused by `check_cost`.
        MissingDependencyError: it needs tifffile, see `tiff`.
    """
    content, name = read_bytes(path), str(path)
    kind = format_of(content)
    check_cost(content, kind, name=name)
    if lossy := loses_values(content):
        raise SourceError(
            f"{name} is {lossy}, which changes ids to similar ones; expected a mask in a format "
            "that keeps them. Write it anew as PNG from where it was made: a copy of this file "
            "keeps the wrong ids."
        )
    if (pages := count_pages(content)) > 1:
        raise SourceError(f"{name} holds {pages} pages or frames; expected one mask a file.")
    if is_turned(content):
        raise SourceError(
            f"{name} carries an orientation, by which programs turn it or not; expected a mask as "
            "it is to be seen. Save it without EXIF."
        )
    image = opened(content)
    few = image is not None and (image.mode in ("P", "1") or bits_of(content) in (2, 4))
    if few or kind == "GIF":
        return _small_ids(content, path)
    if kind == "TIFF" and (found := tiff.read_pages(content)) and not found[0].is_plain:
        pixels = tiff.decode_by_tifffile(content, found[0], name=name)
        return pixels[..., 0] if pixels.shape[2] == 1 else pixels
    ids = _decoded(content, cv2.IMREAD_UNCHANGED, name=name)
    if ids is None or (kind == "TIFF" and complaint(content)):
        raise _unreadable(name, complaint(content))
    return ids if ids.ndim == 2 else _named(ids).pixels


def read_bytes(path: Path) -> bytes:
    """Content of a file; SourceError if it cannot be read."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise SourceError(f"{path} cannot be read: {error.strerror}.") from None


def _decode_by_opencv(content: bytes, kind: str, name: str) -> Picture:
    # UNCHANGED keeps alpha, but ignores EXIF; the fourth byte of a BMP's pixel is no alpha.
    keeps_alpha = kind in ("PNG", "WebP")
    flags = cv2.IMREAD_UNCHANGED if keeps_alpha else cv2.IMREAD_ANYCOLOR | cv2.IMREAD_ANYDEPTH
    pixels = _decoded(content, flags, name=name)
    if pixels is None:
        raise _unreadable(name, complaint(content))
    picture = _named(pixels)
    if not keeps_alpha:
        return picture
    image = opened(content)
    pixels = upright(picture.pixels, orientation_of(content, image))
    if image is not None and image.mode == "LA":  # OpenCV repeats the gray
        return Picture(pixels[..., 2:], ("gray", "alpha"))
    return Picture(pixels, picture.channels)


def _named(pixels: Pixels) -> Picture:
    """A picture of what OpenCV decoded, (H, W) or (H, W, C) in the order blue, green, red."""
    if pixels.ndim == 2:
        return Picture(pixels[..., None], ("gray",))
    order, names = ([2, 1, 0, 3], (*RGB, "alpha")) if pixels.shape[2] == 4 else ([2, 1, 0], RGB)
    # A view where that is possible: an image may be large.
    return Picture(pixels[..., order] if len(order) == 4 else pixels[..., ::-1], names)


def _decode_by_pillow(
    content: bytes, page: int, name: str, reader: ImageFile.ImageFile | None = None
) -> Picture:
    """A frame of an animation, or a format that only Pillow reads everywhere."""
    image = reader or opened(content)
    if image is None:
        raise _unreadable(name, "its header is damaged")
    if image.width * image.height > MOST_VALUES or bits_of(content) == 16:
        raise _unreadable(name, "it holds 2^30 pixels or more, or several frames of 16 bit")
    try:
        image.seek(page)
        image.load()
        turned = upright(np.asarray(image.convert("RGBA")), orientation_of(content, image))
    except Exception as error:  # damage raises anything
        raise _unreadable(name, str(error)) from None
    if image.has_transparency_data:
        return Picture(turned, (*RGB, "alpha"))
    return Picture(turned[..., :3], RGB)


def _decode_tiff(content: bytes, page: int, name: str) -> Picture:
    pages = tiff.read_pages(content)
    if not pages:
        raise _unreadable(name, complaint(content) or "it has no directory")
    chosen = pages[page]
    if chosen.start != pages[0].start:
        content = tiff.starting_with(content, chosen)
    if chosen.is_rgba and opened(content) is not None:  # Pillow does not know all of them
        rgba = _decode_by_pillow(content, 0, name).pixels
        return Picture(rgba, chosen.channels)
    if not chosen.is_plain:
        return Picture(tiff.decode_by_tifffile(content, chosen, name=name), chosen.channels)
    pixels = _decoded(content, cv2.IMREAD_UNCHANGED, name=name)
    # OpenCV takes a damaged strip of a compressed TIFF for pixels.
    reason = complaint(content)
    if pixels is None or reason:
        raise _unreadable(name, reason)
    # CMYK and the like come with a fourth channel that means nothing.
    found = Picture(_named(pixels).pixels[..., :3], _named(pixels).channels[:3])
    named = len(chosen.channels) == len(found.channels)
    return Picture(found.pixels, chosen.channels) if named else found


def _georeference(content: bytes, page: int, name: str) -> tiff.Georeference | None:
    chosen = tiff.read_pages(content)[page]
    found = tiff.georeference_of(content, chosen)
    if found is None and chosen.geo:
        _log.warning("%s has a damaged georeference: masks get none.", name)
    if found is not None and chosen.orientation != 1:
        _log.warning(
            "%s is turned by its tag Orientation: masks get no georeference. Save it upright.", name
        )
        return None
    return found


def _decoded(content: bytes, flags: int, *, name: str) -> Pixels | None:
    """Pixels as OpenCV decodes them, None if it cannot."""
    if not content:
        return None
    try:
        with _WARNINGS.unheard():
            return cv2.imdecode(np.frombuffer(content, np.uint8), flags)
    except cv2.error as error:
        raise SourceError(
            f"{name} cannot be read as an image: OpenCV says {error.err}. It takes 2^30 pixels; "
            "the environment variable OPENCV_IO_MAX_IMAGE_PIXELS allows more."
        ) from None


class _Warnings:
    """OpenCV's warnings, of the whole process: it has one for each unknown tag of a TIFF."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._inside = 0  # other threads decode, too
        self._level = 0

    @contextmanager
    def unheard(self) -> Iterator[None]:
        """Off as long as a thread is inside; then as before."""
        with self._lock:
            if not self._inside:
                self._level = cv2.utils.logging.getLogLevel()
                cv2.utils.logging.setLogLevel(min(self._level, cv2.utils.logging.LOG_LEVEL_ERROR))
            self._inside += 1
        try:
            yield
        finally:
            with self._lock:
                self._inside -= 1
                if not self._inside:
                    cv2.utils.logging.setLogLevel(self._level)


_WARNINGS = _Warnings()


def _unreadable(name: str, reason: str | None) -> SourceError:
    return SourceError(f"{name} cannot be read as an image: {reason or 'it is damaged'}.")


def _small_ids(content: bytes, path: Path) -> npt.NDArray[np.generic]:
    """Ids of a palette, or of gray with 1, 2 or 4 bit, which OpenCV would make colours of."""
    try:
        checked, image = opened(content), opened(content)
        if checked is None or image is None:
            raise ValueError("its header is damaged")
        checked.verify()  # checksums: `load` does not compare them all
        ids = np.asarray(image)
    except Exception as error:  # damage raises anything
        raise _unreadable(str(path), str(error)) from None
    bits = bits_of(content)
    # Pillow spreads gray of 2 and 4 bit over 0..255.
    return ids // np.uint8(255 // (2**bits - 1)) if image.mode == "L" and bits < 8 else ids
