"""Descriptions of packages: what is refused, and that nothing in them breaks the reader."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edgeunet.errors import CheckpointError
from edgeunet.exporting.origins.bioimageio_package import open_package
from edgeunet.exporting.origins.bioimageio_rdf import read_description
from support.bioimageio import opened, package

ODD = (
    *(None, "x", "", -1, 0, 1.5, 1e308, float("nan"), 10**400, [], {}, [None], {"a": 1}, True),
    *("../a", "1e-3", "b" * 5000),
)


def test_volumes_and_smaller_outputs_are_refused(tmp_path: Path) -> None:
    path = package(tmp_path, "0.4") / "rdf.yaml"
    content = yaml.safe_load(path.read_text())
    path.write_text(yaml.safe_dump(content).replace("axes: bcyx", "axes: bzyx"))
    with pytest.raises(CheckpointError, match="raw has the axes bzyx; expected b, c, y and x"):
        opened(tmp_path)
    content["outputs"][0]["shape"]["offset"] = [0, 0, -8, -8]
    path.write_text(yaml.safe_dump(content))
    with pytest.raises(CheckpointError, match="map is 16 pixels smaller or larger than the image"):
        opened(tmp_path)
    for tensor, side in ((content["inputs"][0], 32), (content["outputs"][0], 20)):
        tensor["shape"] = [1, 1, side, side]
    path.write_text(yaml.safe_dump(content))
    with pytest.raises(CheckpointError, match="map is 12 pixels smaller or larger than the image"):
        opened(tmp_path)


def places(node: Any, at: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The ways to all values inside."""
    if not isinstance(node, (dict, list)):
        return
    for key, each in node.items() if isinstance(node, dict) else enumerate(node):
        yield (*at, key)
        yield from places(each, (*at, key))


@settings(
    max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data(), version=st.sampled_from(["0.4", "0.5"]))
def test_odd_values_are_errors_of_one_line(
    data: st.DataObject, version: str, tmp_path: Path
) -> None:
    folder = tmp_path / version
    if not folder.exists():
        key = "id" if version == "0.5" else "name"
        axes: Any = ["y", "x"] if version == "0.5" else "xy"
        step = {key: "scale_range", "kwargs": {"mode": "per_sample", "axes": axes}}
        config = {"bioimageio": {"reproducibility_tolerance": [{"output_ids": ["map"]}]}}
        package(folder, version, pre=[step], post=[{key: "sigmoid"}], config=config)
        (folder / "original").write_bytes((folder / "rdf.yaml").read_bytes())
    content = copy.deepcopy(yaml.safe_load((folder / "original").read_text()))
    *way, last = data.draw(st.sampled_from(list(places(content))))
    node = content
    for key in way:
        node = node[key]
    node[last] = data.draw(st.sampled_from(ODD))
    (folder / "rdf.yaml").write_text(yaml.safe_dump(content))
    said = ""
    with open_package(str(folder)) as found:
        try:
            read_description(found).tolerance("onnx", "map")
        except CheckpointError as error:
            said = str(error)
    assert "\n" not in said
    assert len(said) < 1000
