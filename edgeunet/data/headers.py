"""What an image file says before a pixel is decoded: format, size, pages, orientation, palette."""

from __future__ import annotations

import importlib
import io
import re
from contextlib import suppress
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import (
    BmpImagePlugin,
    GifImagePlugin,
    Image,
    ImageFile,
    ImagePalette,
    Jpeg2KImagePlugin,
    JpegImagePlugin,
    PngImagePlugin,
    PpmImagePlugin,
    TiffImagePlugin,
    WebPImagePlugin,
)

from ..errors import SourceError
from . import tiff
from .cost import JPEG_MARKER, check_cost

# Pillow's `Image.open` refuses large images, by a limit that is global. OpenCV has its own.
_FORMATS: dict[str, tuple[re.Pattern[bytes], type[ImageFile.ImageFile]]] = {
    "BMP": (re.compile(rb"BM"), BmpImagePlugin.BmpImageFile),
    "GIF": (re.compile(rb"GIF8[79]a"), GifImagePlugin.GifImageFile),
    "JPEG": (re.compile(rb"\xff\xd8\xff"), JpegImagePlugin.JpegImageFile),
    "JPEG 2000": (
        re.compile(rb"\xff\x4f\xff\x51|\0\0\0\x0cjP  \r\n\x87\n"),
        Jpeg2KImagePlugin.Jpeg2KImageFile,
    ),
    "PNG": (re.compile(rb"\x89PNG\r\n\x1a\n"), PngImagePlugin.PngImageFile),
    "PNM": (re.compile(rb"P[1-6]\s"), PpmImagePlugin.PpmImageFile),
    "TIFF": (tiff.SIGNATURE, TiffImagePlugin.TiffImageFile),
    "WebP": (re.compile(rb"RIFF.{4}WEBP", re.DOTALL), WebPImagePlugin.WebPImageFile),
}
with suppress(ImportError):  # Pillow 11.3 brought it
    _FORMATS["AVIF"] = (
        re.compile(rb".{4}ftypavi[fs]", re.DOTALL),
        importlib.import_module("PIL.AvifImagePlugin").AvifImageFile,
    )
FORMATS = tuple(sorted(_FORMATS))
"""Formats that are read."""

_ORIENTATION = 274  # the tag, in EXIF and in TIFF
_LOSSY = frozenset({"AVIF", "JPEG", "JPEG 2000"})  # the last and the first may be exact; few are
_COMPRESSION = 259  # a TIFF's tag
_LOSSY_TIFF = frozenset({6, 7, 33003, 33005, 34712, 34892, 50001, 50002})  # JPEG and its like


@dataclass(frozen=True)
class Header:
    """What an image file says about itself. height, width: pixels, before EXIF turns the image."""

    format: str
    height: int
    width: int


def probe(content: bytes) -> Header:
    """Read the header of an image file; no pixel is decoded.

    Raises:
        SourceError: not an image of a known format, or refused by `check_cost`.
    """
    kind = format_of(content)
    check_cost(content, kind, name="the image")
    if kind == "TIFF" and (pages := tiff.read_pages(content)) and min(pages[0].size) > 0:
        return Header(kind, *pages[0].size)
    image = opened(content)
    if image is None:
        raise SourceError(f"not an image in a known format: {', '.join(FORMATS)}.")
    return Header(kind, image.height, image.width)


def count_pages(content: bytes) -> int:
    """Pages of a TIFF that are neither thumbnails nor masks, or frames of an animation; at least 1.

    Those of a TIFF are counted up to `MOST_PAGES`.
    """
    if format_of(content) == "TIFF":
        return max(1, len(tiff.read_pages(content)))
    try:
        return max(1, int(getattr(opened(content), "n_frames", 1)))
    except Exception:  # a damaged animation raises anything; decoding says what is wrong
        return 1


def is_turned(content: bytes) -> bool:
    """Whether the file says that its pixels must be turned or mirrored to be upright, by EXIF."""
    return orientation_of(content, opened(content)) != 1


def loses_values(content: bytes) -> str | None:
    """The compression that changes values, so that ids do not survive it; None if there is none."""
    kind = format_of(content)
    if kind in _LOSSY:
        return kind
    if kind == "WebP" and _is_lossy_webp(content):
        return "lossy WebP"
    if kind == "TIFF" and (pages := tiff.read_pages(content)):
        compression = pages[0].numbers.get(_COMPRESSION, (1,))[0]
        return "TIFF with JPEG or the like in it" if compression in _LOSSY_TIFF else None
    return None


def _is_lossy_webp(content: bytes) -> bool:
    """Whether the pixels are in a chunk VP8; the lossless one is VP8L. Source: RFC 9649, 2.3."""
    at = 12
    while at + 8 <= len(content):
        kind, size = content[at : at + 4], int.from_bytes(content[at + 4 : at + 8], "little")
        if kind in (b"VP8 ", b"VP8L"):
            return kind == b"VP8 "
        at += 8 + size + size % 2
    return False


@dataclass(frozen=True, eq=False)
class IdForm:
    """How a file holds values. several: of several channels. palette: RGB (K, 3) of its indices."""

    several: bool = False
    palette: npt.NDArray[np.uint8] | None = None


def form_of(content: bytes) -> IdForm:
    """How a file holds values, by its header; the default if the header is damaged."""
    image = opened(content)
    if image is None:
        return IdForm()
    if image.mode != "P" or image.palette is None:
        return IdForm(several=len(image.getbands()) > 1)
    try:
        own = image.palette
        other = Image.new("P", (1, 1))  # turns any order of bytes into RGB, without the pixels
        other.palette = ImagePalette.raw(own.rawmode or own.mode, bytes(own.palette))
        other.load()
        colours = other.getpalette("RGB")
    except Exception:  # a damaged palette raises anything
        return IdForm()
    return IdForm(palette=np.array(colours, np.uint8).reshape(-1, 3))


def format_of(content: bytes) -> str:
    """Name of the format, or empty."""
    return next((name for name, (start, _) in _FORMATS.items() if start.match(content)), "")


def opened(content: bytes) -> ImageFile.ImageFile | None:
    """The file in Pillow, nothing decoded; None if Pillow does not know it, as some TIFFs.

    None too for a file that `check_cost` refuses, because Pillow would read all its parts.
    """
    kind = format_of(content)
    try:
        check_cost(content, kind, name="the image")
        return _FORMATS[kind][1](io.BytesIO(content)) if kind else None
    except Exception:  # a damaged header raises anything
        return None


def orientation_of(content: bytes, image: ImageFile.ImageFile | None) -> int:
    """As in EXIF, 1 to 8: 1 for upright."""
    if format_of(content) == "TIFF":
        pages = tiff.read_pages(content)
        return pages[0].orientation if pages else 1
    try:
        # Not `getexif`, which also believes XMP; viewers do not.
        exif = Image.Exif()
        exif.load(image.info.get("exif", b"") if image is not None else b"")
        found = exif.get(_ORIENTATION, 1)
    except Exception:  # damaged EXIF raises anything
        return 1
    return found if found in range(1, 9) else 1


def complaint(content: bytes) -> str | None:
    """What Pillow says about a file that it knows and cannot decode; None if it can."""
    if not content:
        return "it is empty"
    if not format_of(content):
        return f"it is none of {', '.join(FORMATS)}"
    image = opened(content)
    if image is None:
        return None
    try:
        image.load()
    except Exception as error:  # damage raises anything
        return str(error)
    return None


def bits_of(content: bytes) -> int:
    """Bits of a PNG's channels, 8 for other formats. Source: PNG (third edition), 11.2.1."""
    return content[24] if format_of(content) == "PNG" and len(content) > 24 else 8


def is_cut_off(content: bytes) -> bool:
    """Whether a JPEG lacks its end: before 5.0 OpenCV fills what is missing with gray.

    What follows the end, such as a film behind a phone's picture, does not count, nor does a
    preview in front of it. Source: ITU-T T.81, annex B.
    """
    at = 2
    while found := JPEG_MARKER.search(content, at):
        if found[0] == b"\xff\xd9":
            return False
        at = found.end() + int.from_bytes(content[found.end() : found.end() + 2], "big")
    return True
