"""The one reader of image files.

Files are read in Python, because OpenCV cannot open names that are not UTF-8, and decoded in
memory. OpenCV decodes the pixels: it keeps 16 bit, turns images as EXIF says and checks a PNG's
checksums. Pillow reads headers, counts pages, keeps the indices of a palette, and says what is
wrong with a file, which OpenCV writes to stderr only. Neither reports damage within the pixels of
a JPEG: libjpeg conceals it.
"""

from __future__ import annotations

import io
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
from PIL import (
    BmpImagePlugin,
    ImageFile,
    JpegImagePlugin,
    PngImagePlugin,
    TiffImagePlugin,
    WebPImagePlugin,
)

from ..errors import SourceError

Rgb = npt.NDArray[np.uint8]
"""(H, W, 3), 8 bit, RGB."""

Pixels = npt.NDArray[np.generic]

MOST_PAGES = 100
"""Pages are counted up to this number: a hostile file may claim millions."""

# Pillow's `Image.open` refuses large images, by a limit that is global. OpenCV has its own.
_FORMATS: dict[str, tuple[re.Pattern[bytes], type[ImageFile.ImageFile]]] = {
    "BMP": (re.compile(rb"BM"), BmpImagePlugin.BmpImageFile),
    "JPEG": (re.compile(rb"\xff\xd8\xff"), JpegImagePlugin.JpegImageFile),
    "PNG": (re.compile(rb"\x89PNG\r\n\x1a\n"), PngImagePlugin.PngImageFile),
    "TIFF": (re.compile(rb"II[*+]\0|MM\0[*+]"), TiffImagePlugin.TiffImageFile),
    "WebP": (re.compile(rb"RIFF.{4}WEBP", re.DOTALL), WebPImagePlugin.WebPImageFile),
}
FORMATS = tuple(_FORMATS)
"""Formats that are read."""

_THUMBNAIL_OR_MASK = 0b101  # of a TIFF page's NewSubfileType (254), TIFF 6.0, page 36
# JPEG markers, but not the bytes within the compressed pixels: a stuffed 0xFF and the restart
# markers. TEM has no length.
_JPEG_MARKER = re.compile(rb"\xff[^\x00\x01\xd0-\xd7\xff]")


@dataclass(frozen=True)
class Header:
    """What an image file says about itself. height, width: pixels, before EXIF turns the image."""

    format: str
    height: int
    width: int


def probe(content: bytes) -> Header:
    """Read the header of an image file; no pixel is decoded.

    Raises:
        SourceError: not an image of a known format.
    """
    image = _opened(content)
    if image is None:
        raise SourceError(f"not an image in a known format: {', '.join(FORMATS)}.")
    return Header(_format(content), image.height, image.width)


def decode(content: bytes, *, name: str) -> Pixels:
    """Decode an image file to RGB (H, W, 3) in its own depth, uint8 or uint16, upright.

    Grayscale is repeated for each channel, and transparency is dropped.

    Args:
        name: of the file, for errors.

    Raises:
        SourceError: not an image, truncated or damaged, several pages, or of another depth.
    """
    image, kind = _opened(content), _format(content)
    if kind == "JPEG" and _is_cut_off(content):
        raise SourceError(f"{name} is truncated: it ends within the image.")
    if image is not None and (pages := _pages(image)) > 1:
        raise SourceError(
            f"{name} holds {pages if pages < MOST_PAGES else f'{pages} or more'} pages or frames; "
            "expected one image a file. Save each as a file of its own, or an animation as a video."
        )
    # COLOR rather than UNCHANGED, which ignores EXIF. It cannot read floats.
    pixels = _decoded(content, cv2.IMREAD_COLOR | cv2.IMREAD_ANYDEPTH, name=name)
    if pixels is None:
        pixels = _decoded(content, cv2.IMREAD_UNCHANGED, name=name)
    # OpenCV takes a damaged strip of a compressed TIFF for pixels.
    reason = _complaint(content) if pixels is None or kind == "TIFF" else None
    if pixels is None or reason:
        raise _unreadable(name, reason)
    if pixels.dtype not in (np.uint8, np.uint16):
        raise SourceError(
            f"{name} holds {pixels.dtype} values; expected uint8 or uint16. Scale it to 0..255 and "
            "save it as 8 bit."
        )
    return pixels[..., ::-1]  # BGR -> RGB as a view: an image may be large


def read_pixels(path: Path) -> Pixels:
    """Read an image file as RGB (H, W, 3) in its own depth; errors as of `decode`."""
    return decode(read_bytes(path), name=str(path))


def read_image(path: Path) -> Rgb:
    """Read an image file as 8-bit RGB (H, W, 3), see `to_8bit`; errors as of `decode`."""
    return np.ascontiguousarray(to_8bit(read_pixels(path)))


def to_8bit(pixels: Pixels) -> npt.NDArray[np.uint8]:
    """Scale 16 bit by 1/257, so that 65535 becomes 255; 8 bit stays as it is."""
    if pixels.dtype == np.uint16:
        # It rounds, and needs no FP32 copy of an image that may be large.
        return cv2.convertScaleAbs(pixels, alpha=1 / 257)  # type: ignore[arg-type, return-value]
    return pixels  # type: ignore[return-value]


def read_ids(path: Path) -> npt.NDArray[np.integer[Any]]:
    """Read an image file as it is stored: palette indices, 0 and 1 of 1 bit, 8 or 16 bit ids.

    Returns:
        (H, W), or (H, W, C) from a file that holds colours instead of ids.

    Raises:
        SourceError: not an image, or damaged.
    """
    content = read_bytes(path)
    image = _opened(content)
    if image is not None and (image.mode in ("P", "1") or _bits(content) in (2, 4)):
        return _small_ids(content, path)
    ids = _decoded(content, cv2.IMREAD_UNCHANGED, name=str(path))
    if ids is None:
        raise _unreadable(str(path), _complaint(content))
    return ids  # type: ignore[return-value]


def read_bytes(path: Path) -> bytes:
    """Content of a file; SourceError if it cannot be read."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise SourceError(f"{path} cannot be read: {error.strerror}.") from None


def _format(content: bytes) -> str:
    """Name of the format, or empty."""
    return next((name for name, (start, _) in _FORMATS.items() if start.match(content)), "")


def _opened(content: bytes) -> ImageFile.ImageFile | None:
    """The file in Pillow, nothing decoded; None if Pillow does not know it, as some TIFFs."""
    kind = _format(content)
    try:
        return _FORMATS[kind][1](io.BytesIO(content)) if kind else None
    except Exception:  # a damaged header raises anything
        return None


def _pages(image: ImageFile.ImageFile) -> int:
    """Pages of a TIFF that are neither thumbnails nor masks, or frames of an animation."""
    if not isinstance(image, TiffImagePlugin.TiffImageFile):
        return int(getattr(image, "n_frames", 1))
    pages = 0
    for number in range(MOST_PAGES):
        try:
            image.seek(number)
        except Exception:  # the end, or a damaged directory
            break
        pages += not image.tag_v2.get(254, 0) & _THUMBNAIL_OR_MASK
    return pages


def _decoded(content: bytes, flags: int, *, name: str) -> Pixels | None:
    """Pixels as OpenCV decodes them, None if it cannot."""
    if not content:
        return None
    try:
        return cv2.imdecode(np.frombuffer(content, np.uint8), flags)
    except cv2.error as error:
        raise SourceError(
            f"{name} cannot be read as an image: OpenCV says {error.err}. It takes 2^30 pixels; "
            "the environment variable OPENCV_IO_MAX_IMAGE_PIXELS allows more."
        ) from None


def _unreadable(name: str, reason: str | None) -> SourceError:
    return SourceError(f"{name} cannot be read as an image: {reason or 'it is damaged'}.")


def _complaint(content: bytes) -> str | None:
    """What Pillow says about a file that it knows and cannot decode; None if it can."""
    if not content:
        return "it is empty"
    if not _format(content):
        return f"it is none of {', '.join(FORMATS)}"
    image = _opened(content)
    if image is None:
        return None
    try:
        image.load()
    except Exception as error:  # damage raises anything
        return str(error)
    return None


def _bits(content: bytes) -> int:
    """Bits of a PNG's channels, 8 for other formats. Source: PNG (third edition), 11.2.1."""
    return content[24] if _format(content) == "PNG" and len(content) > 24 else 8


def _small_ids(content: bytes, path: Path) -> npt.NDArray[np.uint8]:
    """Ids of a palette, or of gray with 1, 2 or 4 bit, which OpenCV would make colours of."""
    try:
        checked, image = _opened(content), _opened(content)
        assert checked is not None and image is not None  # `read_ids` looked
        checked.verify()  # checksums: `load` does not compare them all
        ids = np.asarray(image).astype(np.uint8)
    except Exception as error:  # damage raises anything
        raise _unreadable(str(path), str(error)) from None
    bits = _bits(content)
    # Pillow spreads gray of 2 and 4 bit over 0..255.
    return ids // np.uint8(255 // (2**bits - 1)) if image.mode == "L" else ids


def _is_cut_off(content: bytes) -> bool:
    """Whether a JPEG lacks its end: before 5.0 OpenCV fills what is missing with gray.

    What follows the end, such as a film behind a phone's picture, does not count, nor does a
    preview in front of it. Source: ITU-T T.81, annex B.
    """
    at = 2
    while found := _JPEG_MARKER.search(content, at):
        if found[0] == b"\xff\xd9":
            return False
        at = found.end() + int.from_bytes(content[found.end() : found.end() + 2], "big")
    return True
