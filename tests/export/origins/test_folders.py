"""What is read of a library's folder, and options that it leaves no choice of."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from edgeunet import ExportOptions
from edgeunet.errors import CheckpointError, UsageError
from edgeunet.exporting.origins.folders import folder_of, read_object, refuse_options
from edgeunet.models import Preparation


def test_folder_must_hold_what_is_needed(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"nowhere is not a folder\. Pass hf:FOLDER with a, b"):
        folder_of(str(tmp_path / "nowhere"), "hf", ["a", "b"])
    (tmp_path / "a").touch()
    with pytest.raises(CheckpointError, match=r"lacks b\. Expected a, b"):
        folder_of(str(tmp_path), "hf", ["a", "b"])
    (tmp_path / "b").touch()
    assert folder_of(str(tmp_path), "hf", ["a", "b"]) == tmp_path


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("[]", "holds a list; expected an object"),
        ("{", "cannot be read as JSON"),
        ("[" * 1000 + "]" * 1000, "nested"),
        ('{"a": ' + "9" * 1000 + "}", "an integer has 1000 digits"),
    ],
)
def test_what_is_no_object_is_refused(content: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    path.write_text(content)
    with pytest.raises(CheckpointError, match=message):
        read_object(path)


def test_pipes_and_missing_files_are_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.json")
    with pytest.raises(CheckpointError, match="it is a pipe"):
        read_object(tmp_path / "pipe.json")
    with pytest.raises(CheckpointError, match="does not exist"):
        read_object(tmp_path / "config.json")


def test_options_that_the_folder_tells_are_refused() -> None:
    refuse_options(
        ExportOptions("hf:net", size=(32, 32), preparation=Preparation()), "it", but=["size"]
    )
    options = ExportOptions(
        "hf:net", "w.pth", arch=("a=1",), preparation=Preparation(std=(1.0,), filter="area")
    )
    with pytest.raises(UsageError, match="got --weights, --arch, --std, --filter for hf:net; it"):
        refuse_options(options, "it")
    with pytest.raises(UsageError, match="got --weights, --std, --filter"):
        refuse_options(options, "it", but=["arch"])
    with pytest.raises(UsageError, match="got --size for hf:net"):
        refuse_options(ExportOptions("hf:net", size=(32, 32)), "it")
    refuse_options(options, "it", but=["weights", "arch", "std", "filter"])
