"""The one reader of image files: what it returns, and what it refuses."""

from __future__ import annotations

import io
import os
import re
import struct
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageOps

import edgeunet.data.images
from edgeunet.data import tiff
from edgeunet.data.images import (
    FORMATS,
    RGB,
    count_pages,
    decode,
    decode_only,
    is_turned,
    opened,
    read_ids,
    read_picture,
    to_8bit,
)
from edgeunet.errors import SourceError
from support.media import read_rgb, write_png

ROOT = Path(__file__).parents[2]
COLOURS = np.random.default_rng(0).integers(0, 256, (24, 32, 3), np.uint8)
IDS = np.arange(12, dtype=np.uint8).reshape(3, 4)


def encoded(kind: str, pixels: npt.NDArray[Any] = COLOURS, **options: object) -> bytes:
    content = io.BytesIO()
    Image.fromarray(pixels).save(content, kind, **options)
    return content.getvalue()


LOSSLESS: dict[str, dict[str, Any]] = {
    "png": {},
    "bmp": {},
    "tiff": {},
    "webp": {"lossless": True},
}


def refusal(content: bytes) -> str:
    with pytest.raises(SourceError) as error:
        decode_only(content, name="file")
    return str(error.value)


def pixels_of(content: bytes, page: int = 0) -> npt.NDArray[np.generic]:
    return decode(content, name="file", page=page).pixels


# Pixels


@pytest.mark.parametrize("kind", LOSSLESS)
def test_every_format_gives_its_pixels(kind: str) -> None:
    content = encoded(kind, **LOSSLESS[kind])
    np.testing.assert_array_equal(pixels_of(content), COLOURS)


def test_jpeg_is_decoded_as_opencv_does() -> None:
    content = encoded("jpeg", quality=90)
    wanted = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR)
    assert wanted is not None
    np.testing.assert_array_equal(pixels_of(content), wanted[..., ::-1])


@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_16_bit_keeps_its_depth(suffix: str) -> None:
    deep = COLOURS.astype(np.uint16) * 200 + 3
    content = cv2.imencode(suffix, deep[..., ::-1])[1].tobytes()
    np.testing.assert_array_equal(pixels_of(content), deep)


def test_16_bit_is_scaled_and_not_cut_off_to_8(tmp_path: Path) -> None:
    values = np.array([[0, 128, 129, 255, 65535]], np.uint16)
    image = read_rgb(write_png(tmp_path / "a.png", values))
    assert image[0, :, 0].tolist() == [0, 0, 1, 1, 255]
    assert to_8bit(values)[0].tolist() == [0, 0, 1, 1, 255]


def test_name_that_is_not_utf_8_is_read(tmp_path: Path) -> None:
    path = Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9.png"))
    write_png(path, COLOURS)
    np.testing.assert_array_equal(read_rgb(path), COLOURS)
    np.testing.assert_array_equal(read_ids(write_png(path, IDS)), IDS)
    path.write_bytes(b"no image")
    with pytest.raises(SourceError, match=r"cannot be read as an image: it is none of AVIF"):
        read_picture(path)


def test_gray_and_alpha_are_kept_and_named() -> None:
    gray = COLOURS[..., 0]
    rgba = np.dstack([COLOURS, gray])
    for kind in ("png", "tiff", "webp"):
        found = decode(encoded(kind, rgba, **LOSSLESS[kind]), name="")
        assert found.channels == (*RGB, "alpha")
        visible = gray > 0  # WebP drops the colour of what is transparent
        np.testing.assert_array_equal(found.pixels[visible], rgba[visible])
    for kind in ("png", "tiff", "bmp", "jpeg"):
        found = decode(encoded(kind, gray), name="")
        assert (found.channels, found.pixels.shape) == (("gray",), (24, 32, 1))
    both = decode(encoded("png", np.dstack([gray, 255 - gray])), name="")
    assert both.channels == ("gray", "alpha")
    np.testing.assert_array_equal(both.pixels, np.dstack([gray, 255 - gray]))


@pytest.mark.parametrize("kind", ["gif", "jpeg2000", "avif"])
def test_formats_that_pillow_writes_are_read(kind: str) -> None:
    options: dict[str, Any] = {"avif": {"quality": 100, "subsampling": "4:4:4"}}.get(kind, {})
    found = decode(encoded(kind, COLOURS, **options), name="")
    assert found.channels == RGB
    far = np.abs(found.pixels.astype(int) - COLOURS).mean()
    assert far < {"gif": 40, "jpeg2000": 1, "avif": 10}[kind]


@pytest.mark.parametrize("kind", ["jpeg", "png", "webp", "tiff"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_images_are_turned_upright(kind: str, orientation: int) -> None:
    """As Pillow turns them, which has its own code for it."""
    image = Image.fromarray(COLOURS)
    exif = Image.Exif()
    exif[274] = orientation
    content = io.BytesIO()
    image.save(content, kind, exif=exif, **LOSSLESS.get(kind, {"quality": 95}))
    wanted = np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(content.getvalue()))))
    found = pixels_of(content.getvalue())
    assert found.shape == wanted.shape
    assert np.abs(found.astype(int) - wanted).max() <= (3 if kind == "jpeg" else 0)
    assert is_turned(content.getvalue()) == (orientation != 1)


# Ids


@pytest.mark.parametrize("mode", ["1", "P"])
@pytest.mark.parametrize("kind", ["png", "tiff", "bmp"])
def test_ids_are_read_as_stored(tmp_path: Path, kind: str, mode: str) -> None:
    ids = IDS % 2 if mode == "1" else IDS
    image = Image.fromarray(ids.astype(bool)) if mode == "1" else Image.fromarray(ids)
    if mode == "P":
        image = Image.fromarray(ids, "P")
        image.putpalette([value for n in range(256) for value in (n * 7 % 256, 255 - n, 40)])
    image.save(tmp_path / "mask", kind)
    found = read_ids(tmp_path / "mask")
    np.testing.assert_array_equal(found, ids)
    assert found.dtype == (bool if mode == "1" else np.uint8)


def gray_png(ids: npt.NDArray[np.uint8], bits: int) -> bytes:
    """PNG of one row of gray with few bits, which neither OpenCV nor Pillow writes."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        checksum = struct.pack(">I", zlib.crc32(kind + body))
        return struct.pack(">I", len(body)) + kind + body + checksum

    text = "".join(format(value, f"0{bits}b") for value in ids)
    row = int(text, 2).to_bytes(len(text) // 8, "big")
    header = struct.pack(">IIBBBBB", len(ids), 1, bits, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        [chunk(b"IHDR", header), chunk(b"IDAT", zlib.compress(b"\0" + row)), chunk(b"IEND", b"")]
    )


@pytest.mark.parametrize("bits", [1, 2, 4])
def test_gray_of_few_bits_is_ids_in_a_mask_and_light_in_an_image(tmp_path: Path, bits: int) -> None:
    ids = np.arange(16, dtype=np.uint8) % 2**bits
    path = tmp_path / "a.png"
    path.write_bytes(gray_png(ids, bits))
    np.testing.assert_array_equal(read_ids(path), [ids])
    assert read_rgb(path)[0, :, 0].tolist() == (ids * (255 // (2**bits - 1))).tolist()


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int16", "int32", "float32", "float64"])
def test_ids_of_a_tiff_are_read_in_every_depth(tmp_path: Path, dtype: str) -> None:
    tifffile = pytest.importorskip("tifffile")
    ids = IDS.astype(dtype) * 20
    if dtype in ("int16", "int32"):
        ids = -ids
    tifffile.imwrite(tmp_path / "a.tif", ids)
    np.testing.assert_array_equal(read_ids(tmp_path / "a.tif"), ids)


def test_ids_of_a_gif_are_its_indices(tmp_path: Path) -> None:
    image = Image.fromarray(IDS, "P")
    image.putpalette([value for n in range(12) for value in (n * 20, 255 - n, 40)])
    image.save(tmp_path / "a.gif", optimize=False)
    np.testing.assert_array_equal(read_ids(tmp_path / "a.gif"), IDS)


@pytest.mark.parametrize("kind", LOSSLESS)
def test_colours_of_a_mask_are_rgb(tmp_path: Path, kind: str) -> None:
    (tmp_path / "mask").write_bytes(encoded(kind, **LOSSLESS[kind]))
    np.testing.assert_array_equal(read_ids(tmp_path / "mask"), COLOURS)


@pytest.mark.parametrize(
    ("kind", "options", "words"),
    [
        ("jpeg", {"quality": 100}, "is JPEG, which changes ids"),
        ("webp", {"quality": 100}, "is lossy WebP, which changes ids"),
        ("tiff", {"compression": "jpeg"}, "is TIFF with JPEG or the like in it"),
        ("jpeg2000", {}, "is JPEG 2000, which changes ids"),
    ],
)
def test_mask_that_lost_its_ids_is_refused(
    tmp_path: Path, kind: str, options: dict[str, Any], words: str
) -> None:
    (tmp_path / "mask").write_bytes(encoded(kind, **options))
    with pytest.raises(SourceError, match=words):
        read_ids(tmp_path / "mask")


def test_mask_of_several_pages_is_refused(tmp_path: Path) -> None:
    page = Image.fromarray(IDS)
    page.save(tmp_path / "a.tif", save_all=True, append_images=[page, page])
    with pytest.raises(SourceError, match="holds 3 pages or frames; expected one mask a file"):
        read_ids(tmp_path / "a.tif")


@pytest.mark.parametrize("kind", ["png", "tiff"])
def test_mask_that_exif_turns_is_refused(tmp_path: Path, kind: str) -> None:
    exif = Image.Exif()
    exif[274] = 6
    Image.fromarray(IDS).save(tmp_path / "mask", kind, exif=exif)
    with pytest.raises(SourceError, match="carries an orientation"):
        read_ids(tmp_path / "mask")


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_gray_ids_keep_their_depth(tmp_path: Path, dtype: type) -> None:
    ids = read_ids(write_png(tmp_path / "a.png", IDS.astype(dtype) * 20))
    assert ids.dtype == dtype
    np.testing.assert_array_equal(ids, IDS.astype(dtype) * 20)


@pytest.mark.parametrize("mode", ["P", "L"])
def test_damaged_ids_are_refused(tmp_path: Path, mode: str) -> None:
    ids = Image.fromarray(np.random.default_rng(0).integers(0, 9, (64, 64), np.uint8), mode)
    if mode == "P":
        ids.putpalette(list(range(256)) * 3)
    ids.save(tmp_path / "a.png")
    content = bytearray((tmp_path / "a.png").read_bytes())
    content[-30] ^= 1
    (tmp_path / "a.png").write_bytes(content)
    with pytest.raises(SourceError, match=r"a\.png cannot be read as an image: "):
        read_ids(tmp_path / "a.png")


# Refused


@pytest.mark.parametrize("kind", [*LOSSLESS, "jpeg"])
@pytest.mark.parametrize("lost", [0.5, 3])
def test_truncated_file_is_refused(kind: str, lost: float) -> None:
    content = encoded(kind, **LOSSLESS.get(kind, {}))
    cut = content[: -int(lost if lost > 1 else lost * len(content))]
    words = "is truncated: it ends within" if kind == "jpeg" else "cannot be read as an image: "
    assert refusal(cut).startswith(f"file {words}")


@pytest.mark.parametrize("compression", ["tiff_lzw", "tiff_deflate"])
def test_damaged_strip_of_a_tiff_is_refused(compression: str) -> None:
    """OpenCV returns pixels of it."""
    content = bytearray(encoded("tiff", compression=compression))
    content[600:640] = bytes(40)
    assert "cannot be read as an image: decoder error" in refusal(bytes(content))


def test_opencv_says_nothing_of_tags_that_it_does_not_know(
    capfd: pytest.CaptureFixture[str],
) -> None:
    tags = {33550: (1.0, 1.0, 0.0), 33922: (0.0, 0.0, 0.0, 5.0, 8.0, 0.0)}
    content = encoded("tiff", tiffinfo=tags)
    level = cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_WARNING)
    try:
        with ThreadPoolExecutor(4) as threads:
            for found in threads.map(pixels_of, [content] * 16):
                np.testing.assert_array_equal(found, COLOURS)
        assert cv2.utils.logging.getLogLevel() == cv2.utils.logging.LOG_LEVEL_WARNING
    finally:
        cv2.utils.logging.setLogLevel(level)
    assert capfd.readouterr().err == ""


def test_reason_is_told() -> None:
    assert refusal(b"") == "file cannot be read as an image: it is empty."
    assert (
        refusal(b"GIF86a")
        == f"file cannot be read as an image: it is none of {', '.join(FORMATS)}."
    )
    assert "truncated" in refusal(encoded("png")[:-600])


def test_other_depths_are_named(tmp_path: Path) -> None:
    content = cv2.imencode(".tif", COLOURS[..., 0].astype(np.int32))[1].tobytes()
    assert refusal(content).startswith("file holds int32 values; expected uint8, uint16, int16")


def pages(kind: str, count: int, **options: object) -> bytes:
    content = io.BytesIO()
    first, *others = [Image.fromarray(COLOURS // (number + 1)) for number in range(count)]
    first.save(content, kind, save_all=True, append_images=others, **options)
    return content.getvalue()


@pytest.mark.parametrize("kind", ["tiff", "png", "webp"])
def test_pages_are_counted_and_refused(kind: str) -> None:
    words = refusal(pages(kind, 3, **LOSSLESS[kind]))
    assert words.startswith("file holds 3 pages or frames; expected one image a file.")
    np.testing.assert_array_equal(pixels_of(pages(kind, 1, **LOSSLESS[kind])), COLOURS)


@pytest.mark.parametrize("kind", ["tiff", "png", "webp"])
def test_every_page_is_decoded(kind: str) -> None:
    content = pages(kind, 3, **LOSSLESS[kind])
    assert count_pages(content) == 3
    for page in range(3):
        np.testing.assert_array_equal(pixels_of(content, page), COLOURS // (page + 1))
    with pytest.raises(SourceError, match="file has 3 pages; expected a page below that, got 3"):
        pixels_of(content, 3)


def test_count_of_pages_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (tiff, edgeunet.data.images):
        monkeypatch.setattr(module, "MOST_PAGES", 20)
    assert "holds 20 or more pages" in refusal(pages("tiff", 21))


def test_pages_of_an_animation_come_from_one_reader() -> None:
    content = pages("gif", 4)
    reader = opened(content)
    in_turn = [decode(content, name="a", page=page, reader=reader).pixels for page in range(4)]
    for page, pixels in enumerate(in_turn):
        np.testing.assert_array_equal(pixels, pixels_of(content, page))


@pytest.mark.parametrize("suffix", [".pgm", ".ppm", ".pbm"])
def test_portable_maps_are_read(suffix: str) -> None:
    gray = np.repeat(np.arange(0, 256, 16, dtype=np.uint8)[None], 8, axis=0)
    pixels = {".pgm": gray, ".ppm": COLOURS, ".pbm": (gray > 99).astype(np.uint8) * 255}[suffix]
    bgr = pixels[..., ::-1] if pixels.ndim == 3 else pixels
    content = cv2.imencode(suffix, np.ascontiguousarray(bgr))[1].tobytes()
    found = pixels_of(content)
    np.testing.assert_array_equal(found, pixels.reshape(found.shape))
    with pytest.raises(SourceError, match="cannot be read as an image"):
        pixels_of(content[: len(content) // 2])


def test_thumbnail_is_no_page() -> None:
    content = io.BytesIO()
    small = Image.fromarray(COLOURS[::4, ::4])
    small.encoderinfo = {"tiffinfo": {254: 1}}
    Image.fromarray(COLOURS).save(content, "tiff", save_all=True, append_images=[small])
    np.testing.assert_array_equal(pixels_of(content.getvalue()), COLOURS)


WHOLE = [encoded(kind, **LOSSLESS.get(kind, {})) for kind in [*LOSSLESS, "jpeg"]]


@given(st.sampled_from(WHOLE), st.binary(min_size=1, max_size=16), st.floats(0, 1))
def test_damage_ends_in_pixels_or_an_error(content: bytes, garbage: bytes, where: float) -> None:
    at = int(where * len(content))
    damaged = content[:at] + garbage + content[at + len(garbage) :]
    with suppress(SourceError):
        assert decode(damaged, name="file").channels == RGB


# One reader


def sources() -> Iterator[Path]:
    for folder in ("edgeunet", "export", "runtime"):
        yield from (path for path in (ROOT / folder).rglob("*.py") if not path.is_symlink())


def test_images_are_decoded_in_one_module() -> None:
    # Writers and resizers import Pillow too: what counts is what opens or decodes a file.
    decoders = re.compile(
        r"\bim(?:read|decode)\w*\(|\b(?:Image|Pillow)\.open\(|Image(?:Plugin|File)\b"
    )
    found = {
        path.relative_to(ROOT).as_posix()
        for path in sources()
        if decoders.search(path.read_text(encoding="utf-8"))
    }
    allowed = {f"edgeunet/data/{name}.py" for name in ("headers", "images")}
    assert found - allowed == set(), "see edgeunet/data/images.py"
    assert "edgeunet/data/images.py" in found
