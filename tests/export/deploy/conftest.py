"""Deployments that several tests use, of targets that take long to write."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgeunet.exporting.deploy import deploy
from support.made import Made


@pytest.fixture
def ncnn_deployment(int8_bundle: Path, made: Made) -> Path:
    """The bundle deployed to ncnn. It is the test's own."""
    pytest.importorskip("pnnx", reason="needs the extra [ncnn]")

    def make(folder: Path) -> None:
        assert deploy(int8_bundle, "ncnn", folder / "out") == ("fp16",)

    return made("ncnn", make) / "out"
