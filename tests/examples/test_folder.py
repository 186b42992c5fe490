"""Each example has a folder, a line in the list of examples, and a size that one reads at once."""

from __future__ import annotations

from pathlib import Path

import pytest

from support.commands import ROOT

EXAMPLES = ROOT / "examples"
FOLDERS = sorted(path for path in EXAMPLES.iterdir() if path.is_dir())


def test_no_example_is_outside_a_folder() -> None:
    assert [path.name for path in EXAMPLES.iterdir() if path.is_file()] == ["README.md"]


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_example_is_listed_and_short(folder: Path) -> None:
    assert f"| [`{folder.name}/`]({folder.name}) |" in (EXAMPLES / "README.md").read_text("utf-8")
    files = [path for path in folder.iterdir() if path.suffix != ".ipynb" and path.is_file()]
    for path in files:
        assert len(path.read_text(encoding="utf-8").splitlines()) <= 60, path
