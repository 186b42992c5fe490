"""TIFFs of any depth and number of channels."""

from __future__ import annotations

import io
import struct
import sys
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import tifffile
from hypothesis import given
from hypothesis import strategies as st

from edgeunet.data.images import RGB, Picture, count_pages, decode, probe
from edgeunet.data.tiff import georeference_of, read_pages, upright
from edgeunet.errors import EdgeUNetError, MissingDependencyError, SourceError

VALUES = np.random.default_rng(0).integers(0, 4096, (20, 24, 7))


def written(pixels: npt.NDArray[Any], **options: Any) -> bytes:
    content = io.BytesIO()
    tifffile.imwrite(content, pixels, **options)
    return content.getvalue()


UTM: dict[int, tuple[int, Any]] = {
    33550: (12, (0.5, 0.5, 0.0)),
    33922: (12, (0.0, 0.0, 0.0, 412345.5, 5412345.25, 0.0)),
    34735: (3, (1, 1, 0, 2, 1024, 0, 1, 1, 3072, 0, 1, 32633)),
    34737: (2, "WGS 84 / UTM zone 33N|"),
}
"""Tags of a GeoTIFF, with their types."""


def georeferenced(pixels: npt.NDArray[Any], tags: Any = None, **options: Any) -> bytes:
    listed = [
        (tag, kind, len(values), values, True) for tag, (kind, values) in (tags or UTM).items()
    ]
    return written(pixels, extratags=listed, photometric="minisblack", **options)


def read(content: bytes, page: int = 0) -> Picture:
    return decode(content, name="a.tif", page=page)


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int16", "float32", "float64"])
@pytest.mark.parametrize("channels", [1, 2, 3, 4, 5, 7])
@pytest.mark.parametrize("planar", [False, True])
def test_depth_and_channels_are_kept(dtype: str, channels: int, planar: bool) -> None:
    pixels = (VALUES[..., :channels] - (1000 if dtype[0] in "if" else 0)).astype(dtype)
    if dtype == "float64":
        pixels /= 3
    options = {"photometric": "minisblack", "planarconfig": "separate" if planar else "contig"}
    if channels == 1:
        content = written(pixels[..., 0], photometric="minisblack")
    else:
        content = written(np.moveaxis(pixels, 2, 0) if planar else pixels, **options)
    found = read(content)
    assert found.pixels.dtype == ("float32" if dtype == "float64" else dtype)
    np.testing.assert_array_equal(found.pixels, pixels.astype(found.pixels.dtype))
    assert found.channels == (("gray",) if channels == 1 else ())
    assert probe(content).height == 20


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
@pytest.mark.parametrize("big", [False, True])
@pytest.mark.parametrize("order", ["<", ">"])
def test_rgb_keeps_its_values_beside_alpha_and_unnamed_channels(
    dtype: str, big: bool, order: Any
) -> None:
    pixels = (VALUES[..., :4] // 16).astype(dtype)
    kind = {"photometric": "rgb", "bigtiff": big, "byteorder": order}
    for extra, names in (("unassalpha", (*RGB, "alpha")), ("unspecified", ())):
        found = read(written(pixels, extrasamples=[extra], **kind))
        assert found.channels == names
        np.testing.assert_array_equal(found.pixels, pixels)
    found = read(written(pixels[..., :3], **kind))
    assert found.channels == RGB
    np.testing.assert_array_equal(found.pixels, pixels[..., :3])


@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
def test_gray_whose_zero_is_white_is_inverted(dtype: str) -> None:
    pixels = VALUES[..., 0].astype(dtype)
    content = written(pixels, photometric="miniswhite")
    np.testing.assert_array_equal(read(content).pixels[..., 0], ~pixels)


def test_bands_are_named_as_gdal_writes_them() -> None:
    names = ("Blue", "green", "RED", "NIR &amp; more")
    items = "".join(
        f'<Item name="DESCRIPTION" sample="{band}" role="description">{name}</Item>'
        for band, name in enumerate(names)
    )
    metadata = f"<GDALMetadata>{items}</GDALMetadata>".encode()
    pixels = VALUES[..., :4].astype(np.uint16)
    options = {"photometric": "minisblack", "planarconfig": "contig"}
    tags = [(42112, 2, len(metadata), metadata, True)]
    assert read(written(pixels, extratags=tags, **options)).channels == ()  # & is no name
    tags = [(42112, 2, len(metadata) - 11, metadata.replace(b" &amp; more", b""), True)]
    content = written(pixels, extratags=tags, **options)
    assert read(content).channels == ("blue", "green", "red", "nir")


def test_every_page_is_read() -> None:
    stack = np.moveaxis(VALUES[..., :3], 2, 0).astype(np.uint16)
    content = written(stack, photometric="minisblack")
    assert count_pages(content) == 3
    for page in range(3):
        np.testing.assert_array_equal(read(content, page).pixels[..., 0], stack[page])


@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_turns_many_channels_as_few(orientation: int) -> None:
    pixels = VALUES[..., :5].astype(np.uint16)
    tags = [(274, 3, 1, orientation, True)]
    five = read(written(pixels, photometric="minisblack", planarconfig="contig", extratags=tags))
    np.testing.assert_array_equal(five.pixels, upright(pixels, orientation))
    one = read(written(pixels[..., 0], photometric="minisblack", extratags=tags))
    np.testing.assert_array_equal(one.pixels[..., 0], five.pixels[..., 0])


# Refused


def test_missing_tifffile_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    content = written(VALUES.astype(np.uint16), photometric="minisblack", planarconfig="contig")
    monkeypatch.setitem(sys.modules, "tifffile", None)
    with pytest.raises(MissingDependencyError, match=r"tiff.*a\.tif has 7 channels of uint16"):
        read(content)


def test_claimed_size_is_refused_before_anything_is_read() -> None:
    many = VALUES.astype(np.uint16)
    content = bytearray(written(many, photometric="minisblack", planarconfig="contig"))
    page = read_pages(bytes(content))[0]
    for place in range(page.start + 2, page.start + 100, 12):
        if struct.unpack_from("<H", content, place)[0] in (256, 257):
            head = struct.unpack_from("<HHI", content, place)
            struct.pack_into("<HHII", content, place, *head, 1 << 30)
    with pytest.raises(SourceError, match=r"expected 1 to 2\^30 values"):
        read(bytes(content))


def test_pages_that_point_at_each_other_end() -> None:
    content = bytearray(written(VALUES[..., 0].astype(np.uint16)))
    page = read_pages(bytes(content))[0]
    (count,) = struct.unpack_from("<H", content, page.start)
    struct.pack_into("<I", content, page.start + 2 + 12 * count, page.start)
    assert count_pages(bytes(content)) == 1


WHOLE = [
    written(VALUES[..., :channels].astype(dtype), photometric="minisblack", planarconfig="contig")
    for channels, dtype in ((2, "uint8"), (5, "uint16"), (4, "float32"))
]


@given(st.sampled_from(WHOLE), st.binary(min_size=1, max_size=16), st.floats(0, 1))
def test_damage_ends_in_pixels_or_an_error(content: bytes, garbage: bytes, where: float) -> None:
    at = int(where * len(content))
    damaged = content[:at] + garbage + content[at + len(garbage) :]
    try:
        found = read(damaged)
    except EdgeUNetError:
        return
    assert found.pixels.ndim == 3


@pytest.mark.parametrize("big", [False, True])
@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("channels", [1, 5])
def test_georeference_is_read(order: Any, big: bool, channels: int) -> None:
    pixels = VALUES[..., :channels].squeeze().astype(np.uint16)
    content = georeferenced(pixels, bigtiff=big, byteorder=order)
    found = read(content).georeference
    assert found is not None
    assert found.tags == {tag: values for tag, (_, values) in UTM.items()}
    assert read(written(pixels[..., :1])).georeference is None


def test_georeference_of_an_image_that_is_turned_is_left_out(
    caplog: pytest.LogCaptureFixture,
) -> None:
    pixels = VALUES[..., 0].astype(np.uint8)
    turned = {**UTM, 274: (3, (6,))}
    found = read(georeferenced(pixels, turned))
    assert found.georeference is None
    assert found.pixels.shape[:2] == pixels.shape[::-1]
    assert "a.tif is turned by its tag Orientation: masks get no georeference" in caplog.text


@pytest.mark.parametrize("kind", [0, 3, 11, 12])
@pytest.mark.parametrize("count", [0, 2, 1 << 17, (1 << 32) - 1])
def test_georeference_of_which_a_tag_is_damaged_is_left_out(
    kind: int, count: int, caplog: pytest.LogCaptureFixture
) -> None:
    content = bytearray(georeferenced(VALUES[..., 0].astype(np.uint8)))
    place = content.index(struct.pack("<HH", 33550, 12))
    struct.pack_into("<HI", content, place + 2, kind, count)
    damaged = (kind, count) != (12, 2)
    assert (read(bytes(content)).georeference is None) == damaged
    assert ("a.tif has a damaged georeference: masks get none." in caplog.text) == damaged


@given(place=st.integers(0, 400), value=st.binary(min_size=1, max_size=8))
def test_damaged_georeference_is_no_other_error(place: int, value: bytes) -> None:
    content = bytearray(georeferenced(VALUES[..., 0].astype(np.uint8)))
    content[place : place + len(value)] = value
    for page in read_pages(bytes(content)):
        found = georeference_of(bytes(content), page)
        assert found is None or set(found.tags) <= set(UTM)
