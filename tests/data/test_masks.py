"""Masks come back as their ids, however they are coded; what contradicts the coding is refused."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image

from edgeunet.data.description import Description, Palette
from edgeunet.data.masks import Coding, decide, one_channel
from edgeunet.errors import DatasetError, SourceError
from edgeunet.metrics import IGNORE

Ids = npt.NDArray[np.uint8]

COLOURS: Palette = ((0, 0, 0), (128, 0, 0), (0, 128, 0), (7, 7, 7))
NAMES = ("sky", "road", "sea", "tree")


def description(classes: int = 2, **known: Any) -> Description:
    return Description(path=Path("set/dataset.json"), classes=NAMES[:classes], name="set", **known)


def encoded(kind: str, pixels: npt.NDArray[Any], mode: str | None = None) -> bytes:
    content = io.BytesIO()
    image = Image.fromarray(pixels) if mode is None else Image.fromarray(pixels).convert(mode)
    options = {"lossless": True} if kind == "webp" else {}
    image.save(content, kind, **options)
    return content.getvalue()


def indexed(kind: str, ids: Ids, colours: Sequence[Sequence[int]] = COLOURS) -> bytes:
    image = Image.frombytes("P", ids.shape[::-1], ids.tobytes())
    image.putpalette([value for colour in colours for value in colour])
    content = io.BytesIO()
    image.save(content, kind, **({"optimize": False} if kind == "gif" else {}))  # or it renumbers
    return content.getvalue()


def deep(suffix: str, ids: npt.NDArray[Any]) -> bytes:
    return cv2.imencode(suffix, ids)[1].tobytes()


def grays(ids: Ids) -> Ids:
    return np.repeat(ids[..., None], 3, axis=2)


def rgba(ids: Ids) -> Ids:
    return np.dstack([grays(ids), np.full_like(ids, 255)])


Writer = Callable[[Ids], bytes]

# Name -> (writes ids of two classes, what dataset.json says).
OF_TWO: dict[str, tuple[Writer, dict[str, Any]]] = {
    "ids": (lambda ids: encoded("png", ids), {}),
    "0 and 255": (lambda ids: encoded("png", ids * np.uint8(255)), {"mask_values": (0, 255)}),
    "255 and 0": (lambda ids: encoded("bmp", 255 - ids * np.uint8(255)), {"mask_values": (255, 0)}),
    "0 and 200": (lambda ids: encoded("tiff", ids * np.uint8(200)), {"mask_values": (0, 200)}),
    "1 bit": (lambda ids: encoded("png", ids * np.uint8(255), "1"), {}),
    "1 bit as 0 and 255": (
        lambda ids: encoded("tiff", ids * np.uint8(255), "1"),
        {"mask_values": (0, 255)},
    ),
    "1 bit inverted": (
        lambda ids: encoded("png", 255 - ids * np.uint8(255), "1"),
        {"mask_values": (255, 0)},
    ),
    "0 and 65535": (
        lambda ids: deep(".png", ids.astype(np.uint16) * 65535),
        {"mask_values": (0, 65535)},
    ),
}

# The same for four classes.
OF_FOUR: dict[str, tuple[Writer, dict[str, Any]]] = {
    "png": (lambda ids: encoded("png", ids), {}),
    "bmp": (lambda ids: encoded("bmp", ids), {}),
    "tiff": (lambda ids: encoded("tiff", ids), {}),
    "webp": (lambda ids: encoded("webp", grays(ids)), {}),
    "gif": (lambda ids: indexed("gif", ids), {}),
    "16 bit png": (lambda ids: deep(".png", ids.astype(np.uint16)), {}),
    "16 bit tiff": (lambda ids: deep(".tif", ids.astype(np.uint16)), {}),
    "float tiff": (lambda ids: deep(".tif", ids.astype(np.float32)), {}),
    "equal channels": (lambda ids: encoded("png", grays(ids)), {}),
    "opaque alpha": (lambda ids: encoded("png", rgba(ids)), {}),
    "indices": (lambda ids: indexed("png", ids), {}),
    "indices of a known palette": (lambda ids: indexed("bmp", ids), {"palette": COLOURS}),
    "colours": (
        lambda ids: encoded("png", np.array(COLOURS, np.uint8)[ids]),
        {"palette": COLOURS, "mask_values": "palette"},
    ),
    "colours of indices": (
        lambda ids: indexed("tiff", 3 - ids, COLOURS[::-1]),
        {"palette": COLOURS, "mask_values": "palette"},
    ),
    "values": (
        lambda ids: encoded("png", np.array([9, 0, 254, 77], np.uint8)[ids]),
        {"mask_values": (9, 0, 254, 77)},
    ),
}

sizes = st.tuples(st.integers(1, 9), st.integers(1, 9))


def masks(classes: int) -> st.SearchStrategy[Ids]:
    return sizes.flatmap(
        lambda size: arrays(np.uint8, size, elements=st.integers(0, classes - 1), fill=st.nothing())
    )


@pytest.mark.parametrize("name", OF_TWO)
@given(ids=masks(2))
def test_ids_of_two_classes_come_back(
    tmp_path_factory: pytest.TempPathFactory, name: str, ids: Ids
) -> None:
    write, known = OF_TWO[name]
    path = tmp_path_factory.mktemp("mask") / "mask"
    path.write_bytes(write(ids))
    found = decide(description(**known), [path]).read(path)
    assert found.dtype == np.uint8
    np.testing.assert_array_equal(found, ids)


@pytest.mark.parametrize("name", OF_FOUR)
@given(ids=masks(4))
def test_ids_of_more_classes_come_back(
    tmp_path_factory: pytest.TempPathFactory, name: str, ids: Ids
) -> None:
    write, known = OF_FOUR[name]
    path = tmp_path_factory.mktemp("mask") / "mask"
    path.write_bytes(write(ids))
    np.testing.assert_array_equal(decide(description(4, **known), [path]).read(path), ids)


# Decided for the whole set


def files(folder: Path, *values: Sequence[int] | bytes) -> list[Path]:
    """Masks of one row with these values each, or with this content."""
    paths = [folder / f"{index}.png" for index in range(len(values))]
    for path, row in zip(paths, values, strict=True):
        path.write_bytes(row if isinstance(row, bytes) else encoded("png", np.uint8([row])))
    return paths


@pytest.mark.parametrize(
    ("values", "wanted"),
    [
        ([[0, 1], [0, 0], [1, 1]], (0, 1)),
        ([[0, 1, 255], [0, 255], [0, 1]], (0, 1)),  # 255 does not count
        ([[0, 0], [0, 0]], (0, 1)),
        ([[0, 255], [0, 0], [255, 255]], (0, 255)),
        ([[0, 255], encoded("png", np.uint8([[0, 255]]), "1")], (0, 255)),
        ([deep(".png", np.uint16([[0, 65535]])), [0, 0]], (0, 65535)),
    ],
)
def test_two_classes_are_told_by_all_files(
    tmp_path: Path, values: list[Any], wanted: tuple[int, int]
) -> None:
    coding = decide(description(), files(tmp_path, *values))
    assert coding.values == wanted
    assert bool(coding.notice) == (wanted != (0, 1))
    assert coding.ignore == (() if coding.notice else (IGNORE,))


def test_what_was_found_out_is_said(tmp_path: Path) -> None:
    notice = decide(description(), files(tmp_path, [0, 255])).notice
    assert notice.startswith("masks with 0 and 255: 0 is 'sky', 255 'road'.")
    assert '"mask_values": [0, 255] in dataset.json says so' in notice
    one_bit = encoded("png", np.uint8([[0, 255]]), "1")
    notice = decide(description(), files(tmp_path, one_bit)).notice
    assert notice == "masks with 1 bit: black is 'sky', white 'road'."


@pytest.mark.parametrize(
    "known",
    [{"ignore": (255,)}, {"mask_values": "ids"}, {"mask_values": (0, 1)}, {"ignore": (7, 255)}],
)
def test_dataset_json_settles_what_255_is(tmp_path: Path, known: dict[str, Any]) -> None:
    (path,) = files(tmp_path, [0, 255])
    coding = decide(description(**known), [path])
    assert (coding.read(path).tolist(), coding.notice) == ([[0, IGNORE]], "")


def test_more_than_two_classes_are_never_black_and_white(tmp_path: Path) -> None:
    (path,) = files(tmp_path, [0, 255])
    assert decide(description(3), [path]).read(path).tolist() == [[0, IGNORE]]


def test_palette_of_black_and_white_says_which_is_which(tmp_path: Path) -> None:
    (path,) = files(tmp_path, [0, 255])
    palette = ((255, 255, 255), (0, 0, 0))
    coding = decide(description(palette=palette), [path])
    assert coding.read(path).tolist() == [[1, 0]]
    assert "0 is 'road', 255 'sky'" in coding.notice


def test_masks_that_contradict_each_other_are_named_with_the_key(tmp_path: Path) -> None:
    one, other, third = files(tmp_path, [0, 255], [0, 1], [0, 0])
    with pytest.raises(DatasetError) as error:
        decide(description(), [third, one, other])
    message = str(error.value)
    assert message.startswith(f"{one} holds 255, and {other} holds 1.")
    assert 'set "ignore": 255 in set/dataset.json' in message
    assert '"mask_values": [0, 255]' in message
    for known in ({"ignore": (255,)}, {"mask_values": (0, 1)}):
        coding = decide(description(**known), [one, other])  # type: ignore[arg-type]
        assert [coding.read(path).tolist() for path in (one, other)] == [[[0, IGNORE]], [[0, 1]]]


def test_file_that_cannot_be_read_has_no_say(tmp_path: Path) -> None:
    paths = files(tmp_path, b"no image", [0, 255])
    assert decide(description(), [*paths, tmp_path / "nowhere"]).values == (0, 255)


def test_colours_decide_for_gray_masks_too(tmp_path: Path) -> None:
    """A mask of one gray colour could be read by its value as well."""
    palette = ((128, 128, 128), (0, 0, 0), (9, 0, 9))
    gray = encoded("png", grays(np.uint8([[0, 0]])))
    coloured = encoded("png", np.array([[palette[2], palette[0]]], np.uint8))
    paths = files(tmp_path, gray, coloured)
    coding = decide(description(3, palette=palette), paths)
    assert [coding.read(path).tolist() for path in paths] == [[[1, 1]], [[2, 0]]]


def test_gray_colours_of_a_palette_are_colours(tmp_path: Path) -> None:
    palette = ((0, 0, 0), (128, 128, 128), (255, 255, 255))
    paths = files(
        tmp_path,
        encoded("png", grays(np.uint8([[0, 128]]))),
        encoded("png", grays(np.uint8([[255]]))),
    )
    coding = decide(description(3, palette=palette), paths)
    assert [coding.read(path).tolist() for path in paths] == [[[0, 1]], [[2]]]
    # But ids in three channels stay ids, whatever colours stand for them.
    paths = files(tmp_path, encoded("png", grays(np.uint8([[0, 1, 2]]))))
    assert decide(description(3, palette=palette), paths).read(paths[0]).tolist() == [[0, 1, 2]]


def test_palette_for_display_alone_needs_no_look_at_gray_masks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edgeunet.data.masks.read_ids", None)
    paths = [*files(tmp_path, [0, 1, 2], [0, 255]), tmp_path / "indexed.png"]
    paths[-1].write_bytes(indexed("png", np.uint8([[0, 1, 3]])))
    assert decide(description(4, palette=COLOURS), paths).values == (0, 1, 2, 3)


def test_two_classes_of_one_colour_cannot_be_read_by_colours(tmp_path: Path) -> None:
    palette = (COLOURS[0], COLOURS[1], COLOURS[1])
    with pytest.raises(DatasetError, match="'road' and 'sea' the same colour, \\[128, 0, 0\\]"):
        decide(description(3, palette=palette, mask_values="palette"), [])


def test_palette_that_numbers_the_colours_otherwise_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(indexed("png", np.uint8([[0, 1]]), [COLOURS[0], COLOURS[2]]))
    known = description(4, palette=COLOURS)
    with pytest.raises(DatasetError) as error:
        decide(known, [path])
    message = str(error.value)
    assert f"{path}: index 1 of its palette has the colour [0, 128, 0]" in message
    assert "gives to 'sea'" in message
    assert decide(replace(known, mask_values="palette"), [path]).read(path).tolist() == [[0, 2]]
    assert decide(replace(known, mask_values="ids"), [path]).read(path).tolist() == [[0, 1]]
    # Colours that dataset.json does not know contradict nothing, nor do those that are not used.
    path.write_bytes(indexed("png", np.uint8([[0, 1]]), [(1, 1, 1), (2, 2, 2), COLOURS[0]]))
    assert decide(known, [path]).read(path).tolist() == [[0, 1]]


# Refused


def complaint(path: Path, coding: Coding) -> str:
    with pytest.raises(DatasetError) as error:
        coding.read(path)
    assert str(error.value).startswith(str(path))
    return str(error.value)


def test_class_id_that_is_no_class_is_refused(tmp_path: Path) -> None:
    (path,) = files(tmp_path, [0, 3, 1])
    message = complaint(path, Coding((0, 1, 2)))
    assert message.startswith(
        f"{path} holds class id 3 at row 0, column 1; there are 3 classes (0..2, 255 = ignore)."
    )
    assert '"mask_values": [0, 1, 3]; if 3 does not count, "ignore": 3.' in message


def test_mask_that_was_scaled_smoothly_is_told_so(tmp_path: Path) -> None:
    (path,) = files(tmp_path, [0, 60, 130, 200, 254, 255])
    message = complaint(path, Coding((0, 255), ()))
    assert message.endswith(
        "It holds 6 different values, as after smooth scaling or a compression with losses. Write "
        "it anew without: scale to the nearest pixel."
    )


def test_value_that_is_no_class_is_refused(tmp_path: Path) -> None:
    (path,) = files(tmp_path, [0, 255, 254])
    message = complaint(path, Coding((0, 255), ()))
    assert "holds value 254 at row 0, column 2; there are 2 classes (0, 255)." in message


def test_colour_that_is_not_in_the_palette_is_refused(tmp_path: Path) -> None:
    pixels = np.array([[COLOURS[0], COLOURS[1]], [(128, 0, 1), COLOURS[2]]], np.uint8)
    (path,) = files(tmp_path, encoded("png", pixels))
    coding = decide(description(4, palette=COLOURS), [path])
    message = complaint(path, coding)
    assert "holds the colour [128, 0, 1] at row 1, column 0" in message
    assert "lists [0, 0, 0], [128, 0, 0], [0, 128, 0], [7, 7, 7]. Add the colour" in message


def test_colours_without_a_palette_are_refused(tmp_path: Path) -> None:
    (path,) = files(tmp_path, encoded("png", np.uint8([[[0, 0, 0], [128, 0, 0]]])))
    message = complaint(path, decide(description(), [path]))
    assert "holds colours, such as [128, 0, 0] at row 0, column 1; expected class ids" in message
    assert '"palette": [[r, g, b], ...]' in message


def test_transparent_masks_and_fractions_are_refused(tmp_path: Path) -> None:
    pixels = rgba(np.uint8([[0, 1]]))
    pixels[0, 1, 3] = 0
    (path,) = files(tmp_path, encoded("png", pixels))
    assert "is transparent at row 0, column 1" in complaint(path, Coding((0, 1)))
    path.write_bytes(deep(".tif", np.float32([[0, 0.5]])))
    assert "holds 0.5 at row 0, column 1; expected whole" in complaint(path, Coding((0, 1)))
    path.write_bytes(deep(".tif", np.float32([[np.nan, 0]])))
    assert "holds nan at row 0, column 0" in complaint(path, Coding((0, 1)))


def test_jpeg_is_refused_with_the_reason(tmp_path: Path) -> None:
    (path,) = files(tmp_path, encoded("jpeg", np.zeros((8, 8), np.uint8)))
    for coding in (Coding((0, 1)), Coding((0, 1), (), COLOURS[:2])):
        with pytest.raises(SourceError, match="is JPEG, which changes ids to similar ones"):
            coding.read(path)


@given(values=st.lists(st.integers(-(2**31), 2**31 - 1), min_size=1, max_size=6))
def test_every_value_is_a_class_ignored_or_refused(
    tmp_path_factory: pytest.TempPathFactory, values: list[int]
) -> None:
    coding, found = Coding((0, 5), (9,)), np.array([values])
    known = {0: 0, 5: 1, 9: IGNORE}
    path = tmp_path_factory.mktemp("mask") / "mask"
    if set(values) <= set(known):
        assert coding._by_value(found, path).tolist() == [[known[value] for value in values]]
    else:
        with pytest.raises(DatasetError, match="holds value"):
            coding._by_value(found, path)


def test_one_channel_keeps_what_has_one() -> None:
    ids = np.arange(6).reshape(2, 3)
    assert one_channel(ids, Path("a")) is ids
