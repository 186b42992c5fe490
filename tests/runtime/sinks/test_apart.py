"""Outputs of several sources: where each goes, and that one does not hold up another."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edgeunet.errors import OutputError, OutputExistsError, UsageError
from edgeunet.runtime.frames import Segmented, SourceFrame
from edgeunet.runtime.sinks import Sink
from edgeunet.runtime.sinks.apart import Apart, check_apart, is_apart, outputs_of


@pytest.mark.parametrize(
    ("output", "format_", "wanted"),
    [
        ("out", None, "out/door/"),
        ("out/", "coco", "out/door.json"),
        ("out", "polygons", "out/door.jsonl"),
        ("-", None, "-"),
        ("out/{source}.mp4", None, "out/door.mp4"),
        ("{source}/masks.jsonl", None, "door/masks.jsonl"),
    ],
)
def test_each_source_has_an_output(output: str, format_: str | None, wanted: str) -> None:
    found = outputs_of(output, ["door", "yard"], format=format_)  # type: ignore[arg-type]
    assert found == {"door": wanted, "yard": wanted.replace("door", "yard")}
    assert is_apart(output)


@pytest.mark.parametrize("output", ["out.mp4", "out.json", "out.png", "pipe:masks"])
def test_one_output_of_several_sources_is_refused(output: str) -> None:
    with pytest.raises(UsageError, match=r"2 sources\. Pass a directory, .*\{source\}"):
        outputs_of(output, ["door", "yard"])
    assert not is_apart(output)


@pytest.mark.parametrize("name", ["..", "", "a/b", "../x"])
def test_name_that_leaves_the_folder_is_refused(name: str) -> None:
    with pytest.raises(UsageError, match="no name of a file"):
        outputs_of("out", [name, "yard"])


def check(output: Path, files: dict[str, list[Path]], *, force: bool = False) -> None:
    check_apart(
        str(output),
        outputs_of(str(output), list(files)),
        files,
        images=set(),
        overlay=False,
        format=None,
        force=force,
    )


def test_folder_of_a_source_or_one_that_holds_something_is_refused(tmp_path: Path) -> None:
    (tmp_path / "film.mp4").write_bytes(b"none")
    files = {"film": [tmp_path / "film.mp4"], "yard": [Path("elsewhere/yard.mp4")]}
    with pytest.raises(UsageError, match="is the source or its directory"):
        check(tmp_path, files, force=True)
    with pytest.raises(OutputExistsError):
        check(tmp_path, {**files, "film": []})
    check(tmp_path / "out", files)
    assert [path.name for path in tmp_path.iterdir()] == ["film.mp4"]


@pytest.mark.parametrize("output", ["{source}.mp4", "{source}"])
def test_output_that_another_source_reads_is_refused(output: str, tmp_path: Path) -> None:
    files = {"x": [tmp_path / "a.mp4", tmp_path / "a" / "1.png"], "a": [tmp_path / "b.mp4"]}
    with pytest.raises(UsageError, match="is the source or its directory"):
        check(tmp_path / output, files, force=True)
    check(tmp_path / "out" / output, files, force=True)


class Noted(Sink):
    def __init__(self, name: str, notes: list[str]) -> None:
        self.name, self.notes = name, notes
        notes.append(f"open {name}")

    def write(self, segmented: Segmented) -> None:
        if segmented.frame.index == 13:
            raise OSError(28, "No space left on device")
        self.notes.append(f"{self.name}{segmented.frame.index}")

    def close(self) -> None:
        self.notes.append(f"close {self.name}")


def result(source: str, index: int) -> Segmented:
    image = np.zeros((2, 3, 3), np.uint8)
    return Segmented(SourceFrame(index, "", image, source=source), image[..., 0])


def unexpected(source: str, error: Exception) -> None:
    raise AssertionError(source) from error


def test_sinks_of_sources_that_ended_are_closed_before_another_opens() -> None:
    notes: list[str] = []
    ended: set[str] = set()
    outputs = dict.fromkeys("abc", "out")
    with Apart(
        outputs, lambda name: Noted(name, notes), is_finished=ended.__contains__, fail=unexpected
    ) as sinks:
        for name, index in (("a", 0), ("b", 0), ("a", 1)):
            sinks.write(result(name, index))
        ended.add("a")
        sinks.write(result("b", 1))
        sinks.write(result("c", 0))
        with pytest.raises(OutputError, match=r"No space left on device\. Finished"):
            sinks.write(result("c", 13))
        sinks.finish("c")
        sinks.finish("c")
    assert notes == [
        *("open a", "a0", "open b", "b0", "a1", "b1", "close a", "open c", "c0", "close c"),
        "close b",
    ]


class Unclosed(Noted):
    def close(self) -> None:
        raise OSError(28, "No space left on device")


def test_sink_that_cannot_be_closed_fails_its_own_source_only() -> None:
    notes: list[str] = []
    failed: dict[str, Exception] = {}
    sinks = Apart(
        {"a": "a.mp4", "b": "b.mp4"},
        lambda name: (Unclosed if name == "a" else Noted)(name, notes),
        is_finished="a".__eq__,
        fail=failed.__setitem__,
    )
    with sinks:
        sinks.write(result("a", 0))
        sinks.write(result("b", 0))
    assert notes == ["open a", "a0", "open b", "b0", "close b"]
    assert list(failed) == ["a"]
    assert str(failed["a"]).startswith("a.mp4 cannot be written: No space left on device")
