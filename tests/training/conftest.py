"""A small data set of cells."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgeunet.data.cells import write_dataset


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("train") / "data"
    write_dataset(path, train=16, val=4, height=96, width=96, seed=3)
    return path
