"""`edgeunet build --runtime rtx`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from edgeunet.bundle.bundle import open_bundle
from edgeunet.bundle.engines import list_engines
from support.commands import call
from support.small_bundle import write_bundle

pytest.importorskip("tensorrt_rtx_bindings", reason="TensorRT-RTX is not installed")


RTX = ("--runtime", "rtx")


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    return write_bundle(tmp_path / "bundle")


# The command line


def test_build_prints_what_it_did(bundle: Path) -> None:
    first = call("build", bundle, *RTX, "--targets", "SM89", "--json")
    assert first.exit_code == 0, first.output
    (said,) = json.loads(first.stdout)["engines"]
    assert said["built"] is True and said["card"]["request"]["targets"] == ["sm89"]
    assert "building sm89-rtx" in first.stderr
    again = call("build", bundle, *RTX, "--targets", "sm89")
    assert again.stdout == f"kept {said['engine']}: it fits graph, version and targets\n"
    forced = call("build", bundle, *RTX, "--targets", "sm89", "--force")
    assert forced.stdout.startswith(f"wrote {said['engine']} (")
    assert "was not run" in forced.stdout


def test_build_of_a_gated_bundle_makes_both_parts(tmp_path: Path) -> None:
    root = write_bundle(tmp_path / "gated", gated=True)
    made = json.loads(call("build", root, *RTX, "--targets", "sm89", "--json").stdout)["engines"]
    assert [engine["card"]["request"]["part"] for engine in made] == ["encoder", "decoder"]
    assert [engine.problem for engine in list_engines(open_bundle(root))] == [None, None]
