"""The examples (`>>>`) in docstrings run, and every public name has one."""

from __future__ import annotations

import doctest
import importlib
import inspect
import io
import pkgutil
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import edgeunet
from edgeunet.data.cells import snapshots

FLAGS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
FACES = ["edgeunet", "edgeunet.exporting", "edgeunet.models", "edgeunet.runtime"]
OPENERS = ["edgeunet.runtime.sinks", "edgeunet.runtime.sources"]

# Public names that still have no example. Remove a name when you add its example.


def examples() -> Iterator[doctest.DocTest]:
    """One for each docstring with examples."""
    finder = doctest.DocTestFinder()
    for found in pkgutil.walk_packages(edgeunet.__path__, "edgeunet."):
        if found.name != "edgeunet.__main__":
            tests = finder.find(importlib.import_module(found.name))
            yield from (test for test in tests if test.examples)


def failures(test: doctest.DocTest, names: dict[str, Any]) -> str:
    """Run the examples of one docstring with these globals, and say what went wrong."""
    output = io.StringIO()
    test.globs = {**test.globs, **names}
    doctest.DocTestRunner(optionflags=FLAGS).run(test, out=output.write)
    return output.getvalue()


@pytest.mark.parametrize("test", [pytest.param(test, id=test.name) for test in examples()])
def test_example_runs(
    test: doctest.DocTest, fp32_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (frame,) = snapshots(1, height=64, width=96, seed=1)
    names = {
        "bundle": shutil.copytree(fp32_bundle, tmp_path / "bundle"),
        "edgeunet": edgeunet,
        "frame": frame.image,
        "np": np,
    }
    folder = tmp_path / "cwd"
    folder.mkdir()
    monkeypatch.chdir(folder)
    assert failures(test, names) == ""


def test_example_that_is_wrong_fails() -> None:
    test = doctest.DocTestParser().get_doctest(">>> number + 1\n3", {}, "name", "file.py", 0)
    assert failures(test, {"number": 2}) == ""
    assert "Expected:\n    3\nGot:\n    4" in failures(test, {"number": 3})
    assert "NameError" in failures(test, {})


def public() -> dict[str, object]:
    """Functions and classes that the faces export, and the openers of sources and sinks."""
    values: dict[str, object] = {}
    for face in [*FACES, *OPENERS]:
        module = importlib.import_module(face)
        for name in module.__all__:
            value = getattr(module, name)
            wanted = face in FACES or name.startswith("open_")
            if wanted and (inspect.isclass(value) or inspect.isfunction(value)):
                values[name] = value
    return values


@pytest.mark.parametrize("name", sorted(public()))
def test_public_name_has_an_example(name: str) -> None:
    text = inspect.getdoc(public()[name]) or ""
    assert doctest.DocTestParser().get_examples(text), "add an Example section with >>>"
