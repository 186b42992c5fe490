"""Test tensors of packages: tolerances, and frames for the bundle."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgeunet.errors import CheckpointError
from edgeunet.models import Preparation
from support.bioimageio import image, opened, package


def test_tolerance_is_the_packages(tmp_path: Path) -> None:
    told = {"relative_tolerance": 0.0, "absolute_tolerance": 0.2}
    config = {"bioimageio": {"reproducibility_tolerance": [told]}}
    assert opened(package(tmp_path / "a", after=lambda v: v + 0.1, config=config)).frames
    other = {"bioimageio": {"reproducibility_tolerance": [{**told, "output_ids": ["other"]}]}}
    endless = {"bioimageio": {"test_kwargs": {"onnx": {"absolute_tolerance": float("nan")}}}}
    with pytest.raises(CheckpointError, match=r"its tolerances are 0\.001, nan and"):
        opened(package(tmp_path / "c", after=lambda v: v + 0.1, config=endless))
    with pytest.raises(CheckpointError, match=r"differ by more than 0\.001"):
        opened(package(tmp_path / "b", after=lambda v: v + 0.1, config=other))


def test_test_image_of_another_depth_is_no_golden_frame(tmp_path: Path) -> None:
    folder = package(tmp_path, shown=image(depth="float32"))
    origin = opened(folder, preparation=Preparation(levels=(0, 255)))
    assert origin.frames == ()
    assert any("values that are not uint8: it is no golden frame" in n for n in origin.notes)
