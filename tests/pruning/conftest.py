"""A small data set, and short timings."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest

from edgeunet.data.cells import write_dataset
from edgeunet.latency import median_latencies


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("prune") / "data"
    write_dataset(path, train=4, val=2, height=64, width=64, seed=3)
    return path


@pytest.fixture(autouse=True)
def _timed_shortly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "edgeunet.pruning.prune.median_latencies", partial(median_latencies, rounds=1)
    )
