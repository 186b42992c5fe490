"""The calibration table: written, read, and refused if it is none."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from edgeunet.bundle.calibration_table import TABLE_NAME, read_table
from edgeunet.bundle.schema import encode
from edgeunet.errors import CalibrationError
from edgeunet.files import write_json
from support.int8 import TABLE


def test_table_comes_back_as_written(tmp_path: Path) -> None:
    write_json(tmp_path / TABLE_NAME, encode(TABLE))
    assert read_table(tmp_path / TABLE_NAME) == TABLE
    assert next(iter(json.loads((tmp_path / TABLE_NAME).read_text()))) == "schema_version"


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"schema_version": 2}, "schema version 2; this edgeunet reads 1"),
        ({"graph": "abc"}, "graph: expected a SHA-256, got 'abc'"),
        ({"method": "mean"}, "expected one of mse, percentile, entropy, minmax, got 'mean'"),
        ({"frames": 0}, "frames is 0"),
        ({"ranges": {}}, "ranges is empty"),
        ({"ranges": {"x": [1.0, 2.0]}}, "range of x is 1.0 to 2.0"),
        ({"ranges": {"x": [0.0, 0.0]}}, "range of x"),
        ({"ranges": {"x": [0.0, float("nan")]}}, "range of x"),
        ({"ranges": {"x": [0.0, float("inf")]}}, "range of x"),
        ({"ranges": {"x": [0.0]}}, "expected 2 entries, got 1"),
        ({"more": 1}, "unknown key 'more'"),
    ],
)
def test_table_that_is_not_in_the_schema_is_refused(
    tmp_path: Path, change: dict[str, Any], reason: str
) -> None:
    path = tmp_path / "table.json"
    path.write_text(json.dumps({**encode(TABLE), **change}))
    with pytest.raises(CalibrationError) as error:
        read_table(path)
    assert str(path) in str(error.value)
    assert reason in str(error.value)


@pytest.mark.parametrize("content", [None, "", "[]", "{}", "ranges"])
def test_what_is_no_table_is_refused(tmp_path: Path, content: str | None) -> None:
    path = tmp_path / "table.json"
    if content is not None:
        path.write_text(content)
    with pytest.raises(CalibrationError, match=r"table\.json.*BUNDLE/calibration\.json"):
        read_table(path)
