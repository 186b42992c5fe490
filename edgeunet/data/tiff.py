"""What a TIFF says about its pages, and the pages that OpenCV and Pillow misread.

Both know gray and RGB. Other files hold more channels, such as the bands of a satellite: tifffile
reads those. Source of all tags and values: TIFF 6.0, and its supplements 1 and 2; channel names:
https://gdal.org/en/stable/drivers/raster/gtiff.html, "Metadata".
"""

from __future__ import annotations

import io
import re
import struct
from dataclasses import dataclass, field
from functools import lru_cache
from html import unescape

import numpy as np
import numpy.typing as npt

from ..bundle.manifest import RGB
from ..errors import MissingDependencyError, SourceError

MOST_PAGES = 1 << 16
"""Pages are counted up to this number: a hostile file may claim millions."""

MOST_VALUES = 1 << 30
"""Most values of a page, as OpenCV's limit of 2^30 pixels."""

SIGNATURE = re.compile(rb"II[*+]\0|MM\0[*+]")

_WHITE_IS_ZERO, _BLACK_IS_ZERO, _RGB, _PALETTE, _YCBCR = 0, 1, 2, 3, 6
_COLOURS: dict[int, tuple[str, ...]] = {
    _WHITE_IS_ZERO: ("gray",),
    _BLACK_IS_ZERO: ("gray",),
    _RGB: RGB,
    _YCBCR: RGB,
}
_ALPHA = (1, 2)  # values of ExtraSamples: premultiplied or not
_THUMBNAIL_OR_MASK = 0b101
_SIZES = {1: "B", 3: "H", 4: "I", 16: "Q"}  # of the types that the tags below may have
_NUMBERS = frozenset({254, 256, 257, 258, 259, 262, 274, 277, 284, 322, 323, 338, 339})
_GDAL_METADATA = 42112
_MOST_NUMBERS, _MOST_TEXT = 1024, 1 << 20
_SHORT, _ASCII, _DOUBLE = 3, 2, 12
_GEO = {
    33550: _DOUBLE,  # ModelPixelScale
    33922: _DOUBLE,  # ModelTiepoint
    34264: _DOUBLE,  # ModelTransformation
    34735: _SHORT,  # GeoKeyDirectory
    34736: _DOUBLE,  # GeoDoubleParams
    34737: _ASCII,  # GeoAsciiParams
    50844: _DOUBLE,  # RPCCoefficient
}
"""Type of each tag that says where an image lies: OGC GeoTIFF 1.1, and GDAL's for RPCs."""
_BYTES = {_SHORT: 2, _ASCII: 1, _DOUBLE: 8}
_MOST_GEO = 1 << 16
_FORMATS = {1: "uint", 2: "int", 3: "float", 5: "complexint", 6: "complex"}
_NAME = re.compile(r"[a-z0-9][a-z0-9 _.-]*", re.ASCII)
_DESCRIPTION = re.compile(r'<Item name="DESCRIPTION" sample="(\d+)"[^>]*>([^<]{1,80})</Item>')


@dataclass(frozen=True)
class Georeference:
    """Where an image lies on the earth, as a GeoTIFF says it: values or a text by tag.

    They hold for a picture of the same size that is not turned, such as a mask.
    """

    tags: dict[int, tuple[float, ...] | str]


@dataclass(frozen=True)
class Page:
    """One directory of a TIFF. start: its place in the file. numbers, metadata: its tags.

    geo: tags of a georeference, each with type, number and place of its values, as the file says.
    """

    start: int
    numbers: dict[int, tuple[int, ...]] = field(default_factory=dict)
    metadata: str = ""
    geo: tuple[tuple[int, int, int, int], ...] = ()

    def _number(self, tag: int, default: int) -> int:
        return (self.numbers.get(tag) or (default,))[0]

    @property
    def size(self) -> tuple[int, int]:
        """Height and width as stored, before the orientation turns the image."""
        return self._number(257, 0), self._number(256, 0)

    @property
    def samples(self) -> int:
        """Number of channels."""
        return self._number(277, 1)

    @property
    def depth(self) -> str:
        """Name of the values' type, such as uint16."""
        return f"{_FORMATS.get(self._number(339, 1), 'unknown')}{self._number(258, 1)}"

    @property
    def orientation(self) -> int:
        """As in EXIF: 1 for upright."""
        return self._number(274, 1)

    @property
    def is_image(self) -> bool:
        """Whether it is neither a thumbnail nor a mask."""
        return not self._number(254, 0) & _THUMBNAIL_OR_MASK

    @property
    def is_plain(self) -> bool:
        """Whether OpenCV reads it: gray or RGB without more channels, and not in planes."""
        photometric, samples = self._number(262, _BLACK_IS_ZERO), self.samples
        if photometric == _WHITE_IS_ZERO and self.depth != "uint8":
            return self.depth == "uint1"  # deeper ones are not inverted
        if photometric not in _COLOURS:
            return True  # palettes, CMYK and the like become RGB
        in_planes = self._number(284, 1) == 2 and samples > 1 and self.depth != "uint8"
        return samples == len(_COLOURS[photometric]) and not in_planes

    @property
    def is_rgba(self) -> bool:
        """Whether it is 8-bit RGB with alpha, which Pillow reads."""
        rgb = self._number(262, _BLACK_IS_ZERO) == _RGB and self._number(284, 1) == 1
        alpha = self._number(338, 0) in _ALPHA
        return rgb and alpha and self.samples == 4 and self.depth == "uint8"

    @property
    def channels(self) -> tuple[str, ...]:
        """Names of the channels, by GDAL's descriptions or the kind of image; () if unknown."""
        samples = self.samples
        found = {int(n): unescape(text).strip() for n, text in _DESCRIPTION.findall(self.metadata)}
        described = tuple(found.get(number, "").lower() for number in range(min(samples, 1024)))
        if len(set(described)) == samples and all(map(_NAME.fullmatch, described)):
            return described
        colours = _COLOURS.get(self._number(262, _BLACK_IS_ZERO))
        if colours is None:
            return RGB
        if samples == len(colours):
            return colours
        alpha = samples == len(colours) + 1 and self._number(338, 0) in _ALPHA
        return (*colours, "alpha") if alpha else ()


@lru_cache(maxsize=1)  # while the pages of a file are decoded, one after the other
def read_pages(content: bytes) -> list[Page]:
    """The pages of a TIFF without its thumbnails and masks, `MOST_PAGES` at most.

    It ends where the file is damaged. The first directory is always among them.
    """
    pages: list[Page] = []
    order, big = ("<" if content[:2] == b"II" else ">"), content[2:4] in (b"+\0", b"\0+")
    seen: set[int] = set()
    try:
        (at,) = struct.unpack_from(f"{order}{'Q' if big else 'I'}", content, 8 if big else 4)
        while at and at not in seen and len(seen) < 2 * MOST_PAGES and len(pages) < MOST_PAGES:
            seen.add(at)
            page, at = _read_page(content, at, order, big)
            if page.is_image or not pages:
                pages.append(page)
    except (struct.error, OverflowError):
        pass
    return pages


def starting_with(content: bytes, page: Page) -> bytes:
    """The same file with another page as its first."""
    order, big = ("<" if content[:2] == b"II" else ">"), content[2:4] in (b"+\0", b"\0+")
    place, form = (8, "Q") if big else (4, "I")
    start = struct.pack(f"{order}{form}", page.start)
    return content[:place] + start + content[place + len(start) :]


def georeference_of(content: bytes, page: Page) -> Georeference | None:
    """Where a page lies on the earth; None if it does not say so, or one of the tags is damaged."""
    order = "<" if content[:2] == b"II" else ">"
    tags: dict[int, tuple[float, ...] | str] = {}
    try:
        for tag, kind, length, place in page.geo:
            if kind != _GEO[tag] or not 0 < length <= _MOST_GEO:
                return None  # the others alone would be another place
            if kind == _ASCII:
                (text,) = struct.unpack_from(f"{length}s", content, place)
                tags[tag] = text.rstrip(b"\0").decode("ascii", "replace")
            else:
                letter = "H" if kind == _SHORT else "d"
                tags[tag] = struct.unpack_from(f"{order}{length}{letter}", content, place)
    except (struct.error, OverflowError):
        return None
    return Georeference(tags) if tags else None


def decode_by_tifffile(content: bytes, page: Page, *, name: str) -> npt.NDArray[np.generic]:
    """Pixels (H, W, C) of the file's first page, upright.

    Raises:
        MissingDependencyError: tifffile is not installed. SourceError: it cannot read the file.
    """
    height, width = page.size
    if not 0 < height * width * page.samples <= MOST_VALUES:
        raise SourceError(
            f"{name} holds {page.samples} channels of {height}x{width}; expected 1 to 2^30 values."
        )
    try:
        import tifffile  # only such files need it
    except ImportError:
        raise MissingDependencyError(
            "tifffile", hint=f"{name} has {page.samples} channels of {page.depth}."
        ) from None
    try:
        with tifffile.TiffFile(io.BytesIO(content)) as file:
            first = file.pages[0]
            pixels = np.asarray(first.asarray())
            axes = first.axes
    except Exception as error:  # damage raises anything
        raise SourceError(
            f"{name} cannot be read as an image: {error}. A compression that tifffile lacks needs "
            "`pip install imagecodecs`."
        ) from None
    if axes not in ("YX", "YXS", "SYX"):
        raise SourceError(f"{name} has the axes {axes}; expected rows, columns and channels.")
    pixels = np.moveaxis(pixels, 0, 2) if axes == "SYX" else pixels.reshape(height, width, -1)
    if page._number(262, _BLACK_IS_ZERO) == _WHITE_IS_ZERO and pixels.dtype.kind == "u":
        pixels = np.invert(pixels)
    return upright(pixels, page.orientation)


def upright(pixels: npt.NDArray[np.generic], orientation: int) -> npt.NDArray[np.generic]:
    """Turn (H, W, …) as EXIF's orientation says; a view."""
    if orientation in (2, 4, 5, 7):
        pixels = pixels[:, ::-1]
    turns = {3: 2, 4: 2, 5: 1, 6: 3, 7: 3, 8: 1}.get(orientation, 0)  # counterclockwise
    return np.rot90(pixels, turns)


def _read_page(content: bytes, at: int, order: str, big: bool) -> tuple[Page, int]:
    """The directory at a place, and the place of the next one; struct.error if damaged."""
    (count,) = struct.unpack_from(order + ("Q" if big else "H"), content, at)
    entry, value = (struct.Struct(order + "HHQ"), 8) if big else (struct.Struct(order + "HHI"), 4)
    first, step = at + (8 if big else 2), entry.size + value
    if count > 4096:
        raise struct.error("too many tags")
    numbers: dict[int, tuple[int, ...]] = {}
    metadata, geo = "", []
    for place in range(first, first + count * step, step):
        tag, kind, length = entry.unpack_from(content, place)
        inside = place + entry.size
        if tag in _NUMBERS and kind in _SIZES and length <= _MOST_NUMBERS:
            form = f"{order}{length}{_SIZES[kind]}"
            if struct.calcsize(form) > value:
                (inside,) = struct.unpack_from(order + ("Q" if big else "I"), content, inside)
            numbers[tag] = struct.unpack_from(form, content, inside)
        elif tag == _GDAL_METADATA and value < length <= _MOST_TEXT:
            (inside,) = struct.unpack_from(order + ("Q" if big else "I"), content, inside)
            metadata = content[inside : inside + length].decode("utf-8", "replace")
        elif tag in _GEO:
            if length * _BYTES[_GEO[tag]] > value:
                (inside,) = struct.unpack_from(order + ("Q" if big else "I"), content, inside)
            geo.append((tag, kind, length, inside))  # read when asked for: pages may be many
    end = first + count * step
    (following,) = struct.unpack_from(order + ("Q" if big else "I"), content, end)
    return Page(at, numbers, metadata, tuple(geo)), following
