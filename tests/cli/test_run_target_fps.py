"""`edgeunet run --target-fps`."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from edgeunet.bundle.bundle import Bundle
from edgeunet.data.cells import snapshots
from edgeunet.errors import BundleError
from edgeunet.runtime import load, open_bundle
from edgeunet.runtime.frames import Frame
from support.commands import fails, succeeds
from support.media import write_png


@pytest.fixture(scope="module")
def bundle(depths_bundle: Path) -> Bundle:
    return open_bundle(depths_bundle)


@pytest.fixture(scope="module")
def frames() -> list[Frame]:
    return [frame.image for frame in snapshots(12, height=64, width=96, seed=5)]


# The command line


@pytest.fixture
def images(frames: list[Frame], tmp_path: Path) -> Path:
    (tmp_path / "images").mkdir()
    for index, frame in enumerate(frames):
        write_png(tmp_path / "images" / f"{index:02d}.png", frame)
    return tmp_path / "images"


def test_run_tells_the_frames_of_each_depth(depths_bundle: Path, images: Path) -> None:
    arguments = ("run", depths_bundle, images, "--target-fps", "0.5")
    result = succeeds(*arguments)
    assert "\nframes at depth 3: 12, 2: 0, 1: 0\n" in result.stdout
    summary = json.loads(succeeds(*arguments, "--json").stdout)
    assert summary["depths"] == {"3": 12, "2": 0, "1": 0}
    assert "depths" not in succeeds("run", depths_bundle, images).stdout


@pytest.mark.parametrize("rate", ["0", "-5", "nan", "inf", "fast"])
def test_run_refuses_rates_that_are_none(depths_bundle: Path, images: Path, rate: str) -> None:
    message = fails(2, "run", depths_bundle, images, "--target-fps", rate)
    assert "--target-fps" in message or "target_fps" in message


def test_run_refuses_a_rate_for_one_depth(
    depths_bundle: Path, images: Path, tmp_path: Path
) -> None:
    output = tmp_path / "masks"
    bundle = depths_bundle / "depths" / "1"
    message = fails(2, "run", bundle, images, "--target-fps", "25", "-o", output)
    assert "holds one depth" in message
    assert not output.exists()


def test_run_refuses_a_depth_that_was_changed(
    depths_bundle: Path, images: Path, tmp_path: Path
) -> None:
    copy = Path(shutil.copytree(depths_bundle, tmp_path / "copy"))
    (copy / "depths" / "1" / "model.fp32.onnx").write_bytes(b"changed")
    with pytest.raises(BundleError, match=r"depths/1/model\.fp32\.onnx has SHA-256"):
        load(copy, target_fps=25)
    assert "depths/1" in fails(1, "run", copy, images)
