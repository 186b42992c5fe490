"""What takes long to make and many tests use: made once for all workers of a test run."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest

from edgeunet.files import locked

VARIABLE = "EDGEUNET_MADE"
"""Folder that several test runs on one tree share, as the parts of `make test` do."""


class Made:
    """Folders by name, each a copy of one that is made once."""

    def __init__(self, factory: pytest.TempPathFactory) -> None:
        self._factory = factory
        base = factory.getbasetemp()
        workers = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
        self._folder = Path(os.environ.get(VARIABLE) or workers / "made")

    def __call__(self, name: str, make: Callable[[Path], object]) -> Path:
        """The caller's own copy of what `make` writes into an empty folder."""
        whole = self._folder / name
        with locked(whole, waiting=lambda: None):
            if not whole.exists():
                with tempfile.TemporaryDirectory(dir=self._folder) as folder:
                    Path(folder, name).mkdir()
                    make(Path(folder, name))
                    Path(folder, name).rename(whole)
        return shutil.copytree(whole, self._factory.mktemp(name) / name)
