"""README's five commands work as they stand, one after the other, in an empty folder."""

from __future__ import annotations

import re
import shlex
import shutil
from pathlib import Path

import pytest

from edgeunet.exporting import ExportOptions
from support.commands import ROOT, succeeds

README = (ROOT / "README.md").read_text(encoding="utf-8")


def commands(heading: str) -> list[list[str]]:
    """The words behind `edgeunet` in each line of the first block under a heading."""
    (block,) = re.findall(rf"^## {heading}$.*?```bash\n(.*?)```", README, re.MULTILINE | re.DOTALL)
    return [shlex.split(line, comments=True)[1:] for line in block.splitlines()]


@pytest.mark.slow(seconds=30)
def test_five_commands_work_one_after_the_other(
    cells_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All but the page, which does not end. The demo's bundle is one of the tests'."""

    def made_before(output: Path, options: ExportOptions, **_: object) -> None:
        shutil.copytree(cells_bundle, output)

    monkeypatch.setattr("edgeunet.demo.export_bundle", made_before)
    monkeypatch.setattr("edgeunet.demo.FRAMES", 30)
    monkeypatch.setattr("edgeunet.demo.LABELLED", 4)
    monkeypatch.chdir(tmp_path)
    demo, run, bench, deploy, serve = commands("Five commands")
    assert serve[0] == "serve"
    for words in (demo, run, bench, deploy):
        succeeds(*words)
    assert {"demo", "mine.mp4", "for-others"} == {path.name for path in tmp_path.iterdir()}
    assert (tmp_path / "demo" / "parity.html").is_file()
    assert (tmp_path / "for-others" / "model.onnx").is_file()
    assert Path(serve[1]).is_dir() and Path(serve[2]).is_file()


def test_first_page_is_short_and_its_picture_moves() -> None:
    assert len(README.splitlines()) <= 130
    picture = ROOT / "docs" / "demo.webp"
    assert "docs/demo.webp" in README and picture.stat().st_size <= 1_000_000
    assert b"ANIM" in picture.read_bytes()[:64]


def test_pages_that_it_names_are_there() -> None:
    named = re.findall(r"\]\(([\w/.-]+)\)", README)
    assert len(named) > 20
    for name in named:
        assert (ROOT / name).is_file(), name
