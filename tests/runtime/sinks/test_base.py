"""What all sinks share: the checks of their places; and functions as outputs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edgeunet.errors import OutputError, OutputExistsError, UsageError
from edgeunet.runtime.frames import Segmented
from edgeunet.runtime.sinks import open_sink
from edgeunet.runtime.sinks.base import check_directory, check_file
from support.masks import CLASSES, PALETTE, segmented


@pytest.mark.parametrize("force", [False, True])
def test_the_wrong_kind_of_thing_in_the_place_is_refused(tmp_path: Path, force: bool) -> None:
    (tmp_path / "file").write_bytes(b"kept")
    with pytest.raises(UsageError, match="file is a file; expected a directory"):
        check_directory(tmp_path / "file", force=force)
    with pytest.raises(UsageError, match="is a directory; expected a file"):
        check_file(tmp_path, force=force)


def test_place_that_cannot_be_written_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_bytes(b"kept")
    for check in (check_file, check_directory):
        with pytest.raises(UsageError, match="file is a file; a/b cannot be written in it"):
            check(tmp_path / "file" / "a" / "b", force=True)
    monkeypatch.setattr("os.access", lambda path, mode: path != tmp_path)  # root may write all
    for check in (check_file, check_directory):
        with pytest.raises(OutputError, match=f"{tmp_path} cannot be written"):
            check(tmp_path / "a" / "b", force=True)


def test_something_in_the_place_needs_force(tmp_path: Path) -> None:
    check_directory(tmp_path, force=False)  # empty
    check_directory(tmp_path / "new", force=False)
    check_file(tmp_path / "new", force=False)
    (tmp_path / "file").write_bytes(b"kept")
    with pytest.raises(OutputExistsError, match="--force"):
        check_file(tmp_path / "file", force=False)
    with pytest.raises(OutputExistsError, match="--force"):
        check_directory(tmp_path, force=False)
    check_file(tmp_path / "file", force=True)
    check_directory(tmp_path, force=True)


def test_function_gets_what_came_out() -> None:
    came: list[Segmented] = []
    frames = [segmented(np.full((4, 6), index, np.uint8), index=index) for index in range(3)]
    with open_sink(came.append, rate=None, classes=CLASSES, palette=PALETTE) as sink:
        for frame in frames:
            sink.write(frame)
    assert all(one is other for one, other in zip(came, frames, strict=True))
