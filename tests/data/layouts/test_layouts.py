"""Every layout is recognised, read to the pixel, and trained on."""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeunet.data.check import check_dataset
from edgeunet.data.datasets import is_dataset, open_dataset, read_labels
from edgeunet.data.layouts import LAYOUTS, recognise
from edgeunet.errors import DatasetError, EdgeUNetError, UnknownNameError
from edgeunet.training.config import TrainConfig
from edgeunet.training.train import train
from support.layouts import ELEVEN, FORMS, make_cvat, make_milesial, make_voc


@pytest.mark.parametrize("form", FORMS)
def test_form_is_recognised_and_read_to_the_pixel(form: str, tmp_path: Path) -> None:
    name, make = FORMS[form]
    made = make(tmp_path)
    assert [family for family, _ in recognise(tmp_path)] == [name]
    opened = open_dataset(tmp_path)
    assert opened.layout.family == name
    assert f"layout {name}, " in " ".join(opened.notices)
    seen: list[Path] = []
    for split in ("train", "val"):
        samples = opened.samples(split)
        assert samples
        for sample in samples:
            expected = made.truth[sample.image.relative_to(tmp_path).as_posix()]
            found = read_labels(sample, num_classes=len(opened.classes))
            np.testing.assert_array_equal(found, expected, err_msg=str(sample.image))
        seen += [sample.image for sample in samples]
    assert len(set(seen)) == len(seen)
    contents = check_dataset(opened)
    assert contents.layout == name


def test_all_layouts_have_a_fixture() -> None:
    assert set(ELEVEN) == set(LAYOUTS) - {"own"}


@pytest.mark.parametrize("layout", ELEVEN)
def test_layout_is_trained_on_for_an_epoch(layout: str, tmp_path: Path) -> None:
    ELEVEN[layout](tmp_path / "data")
    config = TrainConfig(crop=(32, 32), epochs=1, batch_size=8, validate_every=1, amp=False)
    data = open_dataset(tmp_path / "data", layout)
    card = train("mobile_unet", data, tmp_path / "run", config=config, size=(32, 32), width=4)
    assert card.classes == data.classes
    assert 0 <= card.metrics["miou"] <= 100
    assert (tmp_path / "run" / "best.safetensors").is_file()


def test_folder_that_may_be_two_layouts_is_asked_about(tmp_path: Path) -> None:
    make_voc(tmp_path)
    make_cvat(tmp_path)
    with pytest.raises(DatasetError, match=r"may be cvat or voc\. Pass --layout cvat, or another"):
        open_dataset(tmp_path)
    assert open_dataset(tmp_path, "voc").layout.family == "voc"
    assert open_dataset(tmp_path, "cvat").notices[0] != "layout cvat"


def test_unknown_folder_gets_candidates(tmp_path: Path) -> None:
    with pytest.raises(
        DatasetError, match=r"has no layout that is known\. Known: own, camvid, car"
    ):
        open_dataset(tmp_path)
    (tmp_path / "JPEGImages").mkdir()
    with pytest.raises(DatasetError, match=r"may be meant as voc: JPEGImages, SegmentationClass"):
        open_dataset(tmp_path)
    make_milesial(tmp_path / "data" / "inner")
    with pytest.raises(DatasetError, match=r"data/inner looks like carvana. Pass that folder"):
        open_dataset(tmp_path)
    with pytest.raises(DatasetError, match="nowhere is no folder"):
        open_dataset(tmp_path / "nowhere", "voc")


def test_layout_is_declared_or_passed_and_not_both_ways(tmp_path: Path) -> None:
    make_milesial(tmp_path)
    (tmp_path / "dataset.json").write_text('{"layout": "carvana", "val": 0.5}')
    opened = open_dataset(tmp_path)
    assert len(opened.samples("val")) == 3
    assert opened.notices == ("layout carvana, as dataset.json says",)
    assert open_dataset(tmp_path, "carvana").notices == ()
    with pytest.raises(DatasetError, match='says "layout": "carvana"; got --layout voc'):
        open_dataset(tmp_path, "voc")
    with pytest.raises(UnknownNameError, match=r"unknown layout 'carvna'\. Did you mean 'carvana'"):
        open_dataset(tmp_path, "carvna")


def test_view_merges_classes_of_any_layout(tmp_path: Path) -> None:
    make_cvat(tmp_path / "cvat")
    view = tmp_path / "view"
    view.mkdir()
    (view / "dataset.json").write_text(
        '{"source": "../cvat", "merge": {"thing": ["cell", "wall"]}}'
    )
    opened = open_dataset(view)
    assert opened.classes == ("background", "thing")
    assert set(np.unique(read_labels(opened.samples("val")[0], num_classes=2))) == {0, 1}
    with pytest.raises(DatasetError, match="is a view; its source has the layout"):
        open_dataset(view, "cvat")
    assert is_dataset(view)
    assert is_dataset(tmp_path / "cvat")
    assert not is_dataset(tmp_path)
    assert not is_dataset(tmp_path / "cvat" / "annotations.xml", "cvat")


LEAVES = st.sampled_from(
    [
        None,
        True,
        -1,
        0,
        7,
        2**70,
        0.5,
        float("nan"),
        "",
        "x",
        "../x",
        "1",
        [],
        [1],
        [[]],
        {},
        {"a": 1},
    ]
)


def places(value: Any) -> Iterator[tuple[Any, Any]]:
    """Every list or object of JSON, with each of its indices or keys."""
    if isinstance(value, (dict, list)):
        for key in list(value) if isinstance(value, dict) else range(len(value)):
            yield value, key
            yield from places(value[key])


DESCRIBED = {
    "coco": "annotations/instances_train2017.json",
    "labelme": "frame_0.json",
    "nnunet": "dataset.json",
}


@pytest.fixture(scope="module")
def all_layouts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("all")
    for name, make in ELEVEN.items():
        make(root / name)
    return root


@pytest.mark.parametrize("layout", DESCRIBED)
@given(data=st.data())
def test_changed_json_is_read_or_refused(all_layouts: Path, layout: str, data: Any) -> None:
    path = all_layouts / layout / DESCRIBED[layout]
    original = path.read_text()
    content = json.loads(original)
    for _ in range(data.draw(st.integers(1, 2))):
        found = list(places(content))
        where, key = found[data.draw(st.integers(0, len(found) - 1))]
        where[key] = copy.deepcopy(data.draw(LEAVES))  # a drawn list may hold itself else
    path.write_text(json.dumps(content))
    try:
        read_or_refuse(all_layouts / layout, layout)
    finally:
        path.write_text(original)


@pytest.mark.parametrize(
    ("layout", "name"),
    [
        ("cvat", "annotations.xml"),
        ("yolo-seg", "data.yaml"),
        ("yolo-seg", "labels/train/frame_0.txt"),
        ("roboflow", "train/_classes.csv"),
        ("voc", "ImageSets/Segmentation/train.txt"),
        ("mmseg", "classes.txt"),
    ],
)
@given(data=st.data())
def test_changed_text_is_read_or_refused(
    all_layouts: Path, layout: str, name: str, data: Any
) -> None:
    path = all_layouts / layout / name
    original = path.read_text()
    words = re.split(r"([\s\"=,;:<>/]+)", original)
    at = data.draw(st.integers(0, len(words) - 1))
    words[at] = data.draw(
        st.sampled_from(["", "x", "-1", "1e999", "nan", "99", "../..", "[", "\0"])
    )
    path.write_text("".join(words))
    try:
        read_or_refuse(all_layouts / layout, layout)
    finally:
        path.write_text(original)


def read_or_refuse(root: Path, layout: str) -> None:
    with suppress(EdgeUNetError):
        opened = open_dataset(root, layout)
        for split in ("train", "val"):
            for sample in opened.samples(split):
                labels = read_labels(sample, num_classes=len(opened.classes))
                assert set(np.unique(labels)) <= {*range(len(opened.classes)), 255}
