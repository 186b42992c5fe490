"""Where files stand: tests are found by a module's name, and a file has the size of a subject."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from support.commands import ROOT
from support.project import module_files

# Folder of the product -> folder of its tests, which mirrors it.
FOLDERS = {"edgeunet": "tests", "export": "tests/export", "runtime": "tests/runtime"}
FACES = ("__init__", "__main__")

# Module -> the file that has its tests, if that is not the file of its name; say why.
COVERED: dict[str, str] = {}

SMALLEST, LARGEST = 40, 400
# Small files that are a subject of their own.
SMALL = {
    "runtime/sinks/base.py",  # the interface of all sinks
    "edgeunet/latency.py",  # one way to time nets, for prune and bench
}
SMALL_FOLDERS = {
    "edgeunet/cli",  # one file a command
    "edgeunet/data/layouts",  # one file a layout
    "export/deploy",  # one file a target
}


def modules() -> list[str]:
    """Files of the product without the faces of packages, relative to the root."""
    return [
        path.relative_to(ROOT).as_posix()
        for folder in FOLDERS
        for path in module_files(ROOT / folder)
        if path.stem not in FACES
    ]


def file_of(module: str) -> Path:
    """The file that has a module's tests."""
    if module in COVERED:
        return ROOT / COVERED[module]
    folder, *inner, name = module.split("/")
    return ROOT.joinpath(FOLDERS[folder], *inner, f"test_{name}")


def length(module: str) -> int:
    return len((ROOT / module).read_text(encoding="utf-8").splitlines())


@pytest.mark.parametrize("module", modules())
def test_file_of_a_module_are_found_by_its_name(module: str) -> None:
    found = file_of(module)
    assert found.is_file(), f"write the tests of {module} into {found.relative_to(ROOT)}"
    assert "def test_" in found.read_text(encoding="utf-8")


def test_modules_of_other_test_files_are_modules_without_one() -> None:
    for module in COVERED:
        folder, *inner, name = module.split("/")
        assert module in modules()
        assert not ROOT.joinpath(FOLDERS[folder], *inner, f"test_{name}").exists(), module


def test_no_file_is_too_large() -> None:
    assert [module for module in modules() if length(module) > LARGEST] == []


def test_small_files_are_the_known_ones() -> None:
    small = {module for module in modules() if length(module) < SMALLEST}
    assert {name for name in small if name.rpartition("/")[0] not in SMALL_FOLDERS} <= SMALL
    assert set(modules()) >= SMALL


def test_top_of_the_runtime_stays_small() -> None:
    entries = [path for path in (ROOT / "runtime").iterdir() if not path.name.startswith("__pyc")]
    assert len([path for path in entries if path.is_file()]) <= 8
    assert len([path for path in entries if path.is_dir()]) <= 7


def test_files_that_contributing_names_exist() -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    named = re.findall(r"`((?:edgeunet|export|runtime|tests|benchmarks)/[\w./]+\.\w+)`", text)
    assert named
    assert [name for name in named if "NAME" not in name and not (ROOT / name).exists()] == []
