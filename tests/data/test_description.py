"""What `dataset.json` may hold, and what is refused."""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeunet.data.description import (
    DATASET_KEYS,
    VIEW_KEYS,
    Declared,
    Description,
    Division,
    ViewDescription,
    read_declared,
)
from edgeunet.errors import DatasetError

CLASSES = ["sky", "road", "sea"]
PALETTE = [[0, 0, 0], [10, 20, 255], [3, 3, 3]]


def write(folder: Path, info: object) -> Path:
    path = folder / "dataset.json"
    path.write_text(json.dumps(info))
    return path


def described(folder: Path, **info: object) -> Description:
    found = read_declared(write(folder, {"classes": CLASSES, **info}))
    assert isinstance(found, Declared)
    return found.described()


def describe(path: Path) -> None:
    found = read_declared(path)
    assert isinstance(found, Declared)
    assert found.layout is None
    found.described()


def refusal(folder: Path, info: object) -> str:
    path = write(folder, info)
    with pytest.raises(DatasetError) as error:
        describe(path)
    message = str(error.value)
    assert message.startswith(str(path))
    return message


@pytest.mark.parametrize(
    "content", [b"", b"{", b"\xff\xfe", b"classes: 2", b"[" * 100_000, b'{"a": "\xff"}']
)
def test_bad_json_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "dataset.json"
    path.write_bytes(content)
    with pytest.raises(DatasetError, match="cannot be read as JSON: "):
        read_declared(path)


def test_mark_that_editors_write_is_skipped(tmp_path: Path) -> None:
    path = tmp_path / "dataset.json"
    path.write_bytes(b"\xef\xbb\xbf" + json.dumps({"classes": CLASSES}).encode())
    assert isinstance(read_declared(path), Declared)


@pytest.mark.parametrize("info", [[], 3, {}, {"classes": None}, {"classes": "sky"}])
def test_missing_classes_are_refused(tmp_path: Path, info: object) -> None:
    assert refusal(tmp_path, info).endswith(' has no list "classes" of class names.')


@pytest.mark.parametrize("count", [0, 1, 256])
def test_too_few_and_too_many_classes_are_refused(tmp_path: Path, count: int) -> None:
    message = refusal(tmp_path, {"classes": [str(index) for index in range(count)]})
    assert f"names {count} classes; 2 to 255 are possible" in message


@pytest.mark.parametrize("wrong", [3, None, "", "  ", ["sky"], "sky"])
def test_names_are_texts_and_each_is_there_once(tmp_path: Path, wrong: object) -> None:
    message = refusal(tmp_path, {"classes": ["sky", "road", wrong]})
    assert f'"classes" holds {wrong!r}; expected names, each once and not empty' in message


def test_everything_has_a_default(tmp_path: Path) -> None:
    found = described(tmp_path)
    assert found == Description(
        path=tmp_path / "dataset.json", classes=tuple(CLASSES), name=tmp_path.name
    )
    assert (found.values, found.ignore_values, found.ignored) == ((0, 1, 2), (255,), ())


def test_name_of_the_working_folder_is_known(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path, {"classes": CLASSES})
    monkeypatch.chdir(tmp_path)
    found = read_declared(Path("dataset.json"))
    assert isinstance(found, Declared)
    assert found.described().name == tmp_path.name


@pytest.mark.parametrize(
    ("key", "value", "wanted"),
    [
        ("name", "roads", "roads"),
        ("palette", PALETTE, tuple(map(tuple, PALETTE))),
        ("ignore", 7, (7,)),
        ("ignore", [7, 65535, -1], (7, 65535, -1)),
        ("ignore", [], ()),
        ("mask_values", "ids", "ids"),
        ("mask_values", [0, 128, 255], (0, 128, 255)),
        ("mask", "{stem}_mask", "{stem}_mask"),
        ("mask", "gt-{stem}.png", "gt-{stem}.png"),
        ("image", "{stem}_sat", "{stem}_sat"),
        ("image", "{split}/imgs/{stem}.jpg", "{split}/imgs/{stem}.jpg"),
        ("val", 0.25, None),
    ],
)
def test_every_key_is_honoured(tmp_path: Path, key: str, value: object, wanted: object) -> None:
    found = described(tmp_path, **{key: value})
    if key == "val":
        assert found.division == Division(share=0.25)
    else:
        assert getattr(found, key) == wanted


def test_lists_and_seed_divide(tmp_path: Path) -> None:
    lists = described(tmp_path, train="a.txt", val="b.txt").division
    assert lists == Division("a.txt", "b.txt")
    assert described(tmp_path, val=0.1, seed=7).division == Division(share=0.1, seed=7)
    assert lists.given
    assert not described(tmp_path).division.given


def test_layout_gives_what_the_file_does_not(tmp_path: Path) -> None:
    declared = read_declared(write(tmp_path, {"layout": "voc", "ignore": 7}))
    assert isinstance(declared, Declared)
    assert declared.layout == "voc"
    found = declared.described(classes=("sky", "road"), palette=[[0, 0, 0], [1, 1, 1]], ignore=255)
    assert (found.classes, found.ignore) == (("sky", "road"), (7,))
    assert found.palette == ((0, 0, 0), (1, 1, 1))
    renamed = Declared(tmp_path, {"classes": ["a", "b"]})
    assert renamed.described(classes=["x", "y"], mask_values=[3, 4]).mask_values == (3, 4)
    assert renamed.described(classes=["x", "y", "z"], mask_values=[3, 4, 5]).mask_values is None


def test_file_of_nnunet_is_not_taken_for_ours(tmp_path: Path) -> None:
    info = {"labels": {"background": 0}, "channel_names": {"0": "R"}, "numTraining": 2, "val": 0.5}
    found = read_declared(write(tmp_path, info))
    assert found == Declared(tmp_path / "dataset.json", {"layout": "nnunet", "val": 0.5})


@pytest.mark.parametrize(
    ("info", "words"),
    [
        ({"clases": ["x"]}, "unknown key 'clases'. Did you mean 'classes'? Known for a data set: "),
        ({"ignored": 0}, "unknown key 'ignored'. Did you mean 'ignore'?"),
        ({"mask_value": [0, 255, 3]}, "unknown key 'mask_value'. Did you mean 'mask_values'?"),
        ({"x\x1b[2J": 1}, "unknown key 'x\\x1b[2J'. Known"),
        ({"name": 3}, '"name" is 3; expected text'),
        ({"name": ""}, "\"name\" is ''; expected text"),
        ({"task": ["roads"]}, "\"task\" is ['roads']; expected text"),
        ({"ignore": "sky"}, "\"ignore\" is 'sky'; expected the id of pixels that do not count"),
        ({"ignore": None}, '"ignore" is None; expected the id'),
        ({"ignore": True}, '"ignore" is True; expected the id'),
        ({"ignore": 1.0}, '"ignore" is 1.0; expected the id'),
        ({"ignore": 10**9}, '"ignore" is 1000000000; expected the id'),
        ({"ignore": [0, 1]}, "takes 'sky', 'road' out of the classes and leaves 1"),
        ({"mask_values": "colours"}, '"mask_values" is \'colours\'; expected "ids", "palette"'),
        ({"mask_values": [0, 255]}, "of the value of each of the 3 classes, all different"),
        ({"mask_values": [0, 1, 1]}, "of the value of each of the 3 classes, all different"),
        ({"mask_values": [0, 1, "2"]}, "of the value of each of the 3 classes, all different"),
        ({"mask_values": None}, '"mask_values" is None'),
        ({"mask_values": "palette"}, '"mask_values" is "palette", but there is no "palette"'),
        ({"mask": "mask"}, "\"mask\" is 'mask'; expected a file name with {stem} once"),
        ({"mask": "{stem}{stem}"}, "expected a file name with {stem} once"),
        ({"mask": "../{stem}"}, 'or a path below the data set, such as "{split}/masks/{stem}"'),
        ({"mask": "/masks/{stem}"}, "or a path below the data set"),
        ({"mask": "{split}{stem}/{split}"}, "or a path below the data set"),
        ({"mask": "masks\\{stem}"}, "or a path below the data set"),
        ({"layout": 3}, '"layout" is 3; expected the name of one'),
        ({"train": 0.8}, '"train" is 0.8; expected a file that lists samples'),
        ({"val": 1.0}, '"val" is 1.0; expected the share of the samples that validates'),
        ({"val": 1}, '"val" is 1; expected the share'),
        ({"val": 0.2, "seed": -1}, '"seed" is -1; expected a whole number from 0'),
        ({"seed": 3}, '"seed" draws nothing without a share'),
        ({"val": 0.2, "train": "a.txt"}, '"val" is a share and "train" a list'),
        ({"image": 3}, '"image" is 3; expected a file name'),
    ],
)
def test_wrong_keys_and_values_are_refused(
    tmp_path: Path, info: dict[str, object], words: str
) -> None:
    assert words in refusal(tmp_path, {"classes": CLASSES, **info})


@pytest.mark.parametrize(
    ("palette", "words"),
    [
        ([[0, 0, 0]], "must list one [r, g, b] for each class"),
        ([[0, 0, 0]] * 4, "must list one [r, g, b] for each class"),
        ({"sky": [0, 0, 0], "road": [1, 1, 1], "sea": [2, 2, 2]}, "must list one [r, g, b]"),
        ([[0, 0, 0], [9, 9, 9], [1, 2]], "holds [1, 2]; expected [r, g, b]"),
        ([[0, 0, 0], [9, 9, 9], "red"], "holds 'red'; expected [r, g, b]"),
        ([[0, 0, 0], [9, 9, 9], 7], "holds 7; expected [r, g, b]"),
        ([[0, 0, 0], [9, 9, 9], ["r", "g", "b"]], "holds ['r', 'g', 'b']; expected [r, g, b]"),
        ([[0, 0, 0], [9, 9, 9], [None, 0, 0]], "holds [None, 0, 0]; expected [r, g, b]"),
        ([[0, 0, 0], [9, 9, 9], [0, 0, 256]], "holds [0, 0, 256]"),
        ([[0, 0, 0], [9, 9, 9], [0, -1, 0]], "holds [0, -1, 0]"),
        ([[0, 0, 0], [9, 9, 9], [0.5, 0.5, 0.5]], "holds [0.5, 0.5, 0.5]"),
    ],
)
def test_wrong_palette_is_refused(tmp_path: Path, palette: object, words: str) -> None:
    message = refusal(tmp_path, {"classes": CLASSES, "palette": palette})
    assert '"palette"' in message
    assert words in message


def test_ignored_values_are_classes_or_beyond_them(tmp_path: Path) -> None:
    found = described(tmp_path, ignore=[1, 77])
    assert (found.ignored, found.ignore_values) == ((1,), (1, 77))
    found = described(tmp_path, ignore=255, mask_values=[0, 128, 255])
    assert (found.ignored, found.ignore_values) == ((2,), (255,))
    found = described(tmp_path, mask_values=[0, 128, 255])  # 255 is a class here
    assert (found.ignored, found.ignore_values) == ((), ())


# Views


def test_view_is_described(tmp_path: Path) -> None:
    found = read_declared(write(tmp_path, {"source": "../roads", "merge": {"a": ["b", "c"]}}))
    assert isinstance(found, ViewDescription)
    assert found.source == tmp_path / "../roads"
    assert found.merge == {"a": ("b", "c")}


@pytest.mark.parametrize(
    ("info", "words"),
    [
        ({"source": "."}, "is not a view of a data set"),
        ({"merge": {"a": ["b"]}}, "is not a view of a data set"),
        ({"source": ".", "merge": ["crack"]}, "is not a view of a data set"),
        ({"source": ".", "merge": {"a": "crack"}}, "is not a view of a data set"),
        ({"source": ".", "merge": {"a": [3]}}, "is not a view of a data set"),
        ({"source": 3, "merge": {}}, "is not a view of a data set"),
        ({"source": ".", "merge": {}, "classes": ["a"]}, "unknown key 'classes'"),
        ({"source": ".", "merge": {}, "ignore": 0}, "unknown key 'ignore'"),
        ({"source": ".", "merge": {"a": ["b"], "c": ["b"]}}, "\"merge\" names 'b' twice"),
    ],
)
def test_wrong_views_are_refused(tmp_path: Path, info: object, words: str) -> None:
    assert words in refusal(tmp_path, info)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=6,
)


@given(info=st.dictionaries(st.sampled_from((*DATASET_KEYS, *VIEW_KEYS)), json_values))
def test_any_json_is_described_or_refused(
    tmp_path_factory: pytest.TempPathFactory, info: dict[str, object]
) -> None:
    path = write(tmp_path_factory.mktemp("json"), info)
    with suppress(DatasetError):
        found = read_declared(path)
        assert found.path == path
        if isinstance(found, Declared):
            assert found.described().path == path
