"""Folders of images: natural order, and what is left out."""

from __future__ import annotations

from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from edgeunet.listing import list_images, list_images_below, natural_key


def test_numbers_in_names_count_as_numbers() -> None:
    names = ["a1/f9", "a1/f10", "a2/f1", "a10/f1", "b", "f1.png", "f01.png", "f2.png", "f10.png"]
    wanted = ["a1/f9", "a1/f10", "a2/f1", "a10/f1", "b", "f01.png", "f1.png", "f2.png", "f10.png"]
    assert sorted(names, key=natural_key) == wanted
    assert sorted(map(Path, names), key=natural_key) == [Path(name) for name in wanted]


@given(numbers=st.sets(st.integers(0, 10**30), min_size=2), text=st.text("ab_-.", max_size=3))
def test_natural_order_is_that_of_the_numbers(numbers: set[int], text: str) -> None:
    named = {f"x{text}{number}{text}.png": number for number in numbers}
    assert [named[name] for name in sorted(named, key=natural_key)] == sorted(numbers)


@given(names=st.lists(st.text(max_size=8), max_size=6))
def test_any_names_have_an_order_that_does_not_depend_on_theirs(names: list[str]) -> None:
    forward, back = sorted(names, key=natural_key), names[::-1]
    assert sorted(back, key=natural_key) == forward


def test_digits_without_end_are_compared_too() -> None:
    long = "9" * 10_000  # int() refuses these
    assert sorted([f"a{long}", "a1"], key=natural_key) == ["a1", f"a{long}"]


def test_folder_is_sorted_into_images_and_what_is_skipped(tmp_path: Path) -> None:
    for name in ("f10.png", "f9.JPG", "._f9.JPG", ".DS_Store", "notes.txt", "x\x1b[2J"):
        (tmp_path / name).touch()
    (tmp_path / "sub.png").mkdir()
    found = list_images(tmp_path)
    assert [path.name for path in found.images] == ["f9.JPG", "f10.png"]
    assert [path.name for path in found.hidden] == [".DS_Store", "._f9.JPG"]
    told = "2 hidden (.DS_Store, ._f9.JPG), 3 other (notes.txt, sub.png, x\\x1b[2J)"
    assert found.skipped() == told
    (tmp_path / "more").touch()
    assert "4 other (more, notes.txt, sub.png, ...)" in list_images(tmp_path).skipped()
    (tmp_path / "empty").mkdir()
    assert list_images(tmp_path / "empty").skipped() == ""


def test_folders_inside_are_listed_but_links_and_those_left_out(tmp_path: Path) -> None:
    for name in ("b/2.png", "b/10.png", "a.png", "Masks/a.png", ".git/x.png", "b/notes.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "c").symlink_to(tmp_path / "b")
    found = list_images_below(tmp_path, leave_out={"masks"})
    assert [path.relative_to(tmp_path).as_posix() for path in found.images] == [
        "a.png",
        "b/2.png",
        "b/10.png",
    ]
    assert found.skipped() == "1 hidden (.git), 3 other (Masks, c, notes.txt)"
