"""What metadata tell, and what they cannot make happen."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeunet.exporting.origins.onnx_metadata import LONGEST, Metadata, read_metadata


def test_ultralytics() -> None:
    found = read_metadata({"names": "{0: 'cell', 1: 'wall'}", "imgsz": "[480, 640]", "task": "x"})
    assert found == Metadata(classes=("cell", "wall"), size=(480, 640))


@pytest.mark.parametrize(("reverse", "bgr"), [("True", False), ("False", True), ("", None)])
def test_openvino(reverse: str, bgr: bool | None) -> None:
    found = read_metadata({
        "model_info labels": "background cell", "model_info reverse_input_channels": reverse,
        "model_info mean_values": "127.5 0 255", "model_info scale_values": "255",
    })  # fmt: skip
    assert found == Metadata(("background", "cell"), None, bgr, (0.5, 0.0, 1.0), (1.0,))


@pytest.mark.parametrize(
    "names",
    [
        "{0: 'a', 2: 'b'}", "{'0': 'a'}", "['a', 1]", "{}", "3", "{[]: 1}", "__import__('os')",
        "(" * 5000, "[" + "'a'," * 300 + "]", "'" + "a" * LONGEST + "'", "{0: 'a'}x",
    ],
)  # fmt: skip
def test_names_that_are_none_are_left_out(names: str) -> None:
    assert read_metadata({"names": names}) == Metadata()


@given(st.dictionaries(st.sampled_from(["names", "imgsz", "model_info mean_values"]), st.text()))
def test_any_text_is_read(found: dict[str, str]) -> None:
    read_metadata(found)
