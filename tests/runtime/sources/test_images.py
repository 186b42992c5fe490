"""Images as a source: pages, and files that cannot be read."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from edgeunet.errors import SourceError
from edgeunet.runtime.sources import Frames
from edgeunet.runtime.sources.images import Images, image_files
from support.media import write_png

SHADES = [10, 60, 110]


def shaded(value: int) -> Image.Image:
    """Two colours, so that no frame of an animation equals the one before."""
    pixels = np.full((20, 30, 3), value, np.uint8)
    pixels[:10] = 255 - value
    return Image.fromarray(pixels)


def pages(path: Path, **options: object) -> Path:
    first, *others = [shaded(value) for value in SHADES]
    first.save(path, save_all=True, append_images=others, **options)
    return path


def plain(path: Path, value: int = 7) -> Path:
    return write_png(path, np.full((4, 6), value, np.uint8))


@pytest.mark.parametrize("name", ["stack.tif", "film.png", "film.gif", "film.webp", "film.avif"])
def test_each_page_is_a_frame(tmp_path: Path, name: str) -> None:
    options = {"lossless": True} if name.endswith("webp") else {}
    pages(tmp_path / name, **options)
    source = Frames.open(tmp_path / name).read()
    assert source.info.frames == 3, "known before reading"
    frames = list(source)
    assert [frame.name for frame in frames] == [f"{name}#{number}" for number in (1, 2, 3)]
    assert [frame.index for frame in frames] == [0, 1, 2]
    for frame, shade in zip(frames, SHADES, strict=True):
        assert abs(frame.image[15].mean() - shade) < 4
        assert abs(frame.image[5].mean() - (255 - shade)) < 4


def test_pages_among_other_images_are_counted_while_they_are_read(tmp_path: Path) -> None:
    plain(tmp_path / "a.png")
    pages(tmp_path / "b.tif")
    plain(tmp_path / "c.png")
    source = Frames.open(tmp_path).read()
    assert [frame.name for frame in source] == ["a.png", "b.tif#1", "b.tif#2", "b.tif#3", "c.png"]
    assert source.info.frames == 5


def test_long_stack_is_read_to_its_end(tmp_path: Path) -> None:
    first, *others = [Image.fromarray(np.full((2, 3), n % 256, np.uint8)) for n in range(300)]
    first.save(tmp_path / "a.tif", save_all=True, append_images=others)
    values = [int(frame.image[0, 0, 0]) for frame in Frames.open(tmp_path / "a.tif").read()]
    assert values == [n % 256 for n in range(300)]


def test_more_pages_than_can_be_counted_are_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edgeunet.runtime.sources.images.MOST_PAGES", 3)
    with pytest.raises(SourceError, match=r"a\.tif holds 3 or more pages\. Split it"):
        list(Frames.open(pages(tmp_path / "a.tif")).read())


@pytest.fixture
def one_bad(tmp_path: Path) -> Path:
    """a.png and c.png, and b.png that is none."""
    for name in ("a", "b", "c"):
        plain(tmp_path / f"{name}.png")
    (tmp_path / "b.png").write_bytes(b"no image")
    return tmp_path


def test_image_that_cannot_be_read_is_named_and_the_others_are_read(
    one_bad: Path, caplog: pytest.LogCaptureFixture
) -> None:
    source = Frames.open(one_bad).read()
    first, last = next(source), next(source)
    assert [(first.index, first.name), (last.index, last.name)] == [(0, "a.png"), (2, "c.png")]
    with pytest.raises(SourceError, match=r"1 of 3 images cannot be read; .* The first: .*b\.png"):
        next(source)
    assert source.skipped == 1
    (told,) = caplog.messages
    assert told in source.damaged
    assert "b.png cannot be read as an image" in told


def test_damaged_images_may_be_skipped_if_asked(one_bad: Path) -> None:
    source = Frames.open(one_bad).read(skip_damaged=True)
    assert [frame.name for frame in source] == ["a.png", "c.png"]
    assert (source.skipped, len(source.damaged)) == (1, 1)


def test_image_that_is_gone_is_named(one_bad: Path) -> None:
    plain(one_bad / "b.png")
    source = Frames.open(one_bad).read()
    next(source)
    (one_bad / "b.png").unlink()
    assert next(source).name == "c.png"
    with pytest.raises(SourceError, match=r"b\.png cannot be read: No such file"):
        next(source)


@pytest.mark.parametrize("skip_damaged", [False, True])
def test_nothing_that_can_be_read_is_an_error_always(tmp_path: Path, skip_damaged: bool) -> None:
    for name in ("a.png", "b.png"):
        (tmp_path / name).write_bytes(b"")
    with pytest.raises(SourceError, match=r"none of 2 images can be read.*a\.png.*it is empty"):
        list(Frames.open(tmp_path).read(skip_damaged=skip_damaged))
    with pytest.raises(SourceError, match=r"a\.png cannot be read as an image: it is empty"):
        list(Frames.open(tmp_path / "a.png").read(skip_damaged=skip_damaged))


def test_damaged_page_is_numbered(tmp_path: Path) -> None:
    first, *others = [Image.fromarray(np.full((64, 64), n, np.uint8)) for n in range(3)]
    content = io.BytesIO()
    first.save(content, "tiff", save_all=True, append_images=others, compression="tiff_lzw")
    damaged = bytearray(content.getvalue())
    strip = Image.open(content)
    strip.seek(1)
    (at,) = strip.tag_v2[273]  # type: ignore[attr-defined]
    damaged[at : at + 20] = b"\xff" * 20
    (tmp_path / "a.tif").write_bytes(damaged)
    source = Frames.open(tmp_path / "a.tif").read(skip_damaged=True)
    assert [frame.name for frame in source] == ["a.tif#1", "a.tif#3"]
    assert "a.tif#2" in source.damaged[0]


def test_faults_are_kept_up_to_a_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edgeunet.runtime.sources.base.MOST_TOLD", 2)
    files = [tmp_path / f"{number}.png" for number in range(4)]
    source = Images(image_files([plain(tmp_path / "a.png"), *files]), skip_damaged=True)
    assert len(list(source)) == 1
    assert (source.skipped, len(source.damaged)) == (4, 2)


def test_names_are_printed_without_control_characters(tmp_path: Path) -> None:
    for name in ("a\x1b[2J.png", "b.png"):
        (tmp_path / name).write_bytes(b"")
    source = Frames.open(tmp_path).read()
    with pytest.raises(SourceError) as caught:
        list(source)
    assert "a\\x1b[2J.png" in str(caught.value)
    assert "\x1b" not in str(caught.value) + "".join(source.damaged)
