"""Target `bioimageio`: packages that bioimageio.core and our own origin run as the runtime does."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnxruntime
import pytest

from edgeunet import ExportOptions, export_bundle
from edgeunet.bundle.bundle import open_bundle
from edgeunet.bundle.schema import load_yaml
from edgeunet.data.images import read_ids
from edgeunet.data.preparation import Preparation
from edgeunet.data.resize import resize_frame
from edgeunet.errors import ParityError
from edgeunet.exporting.deploy import DeployOptions, bioimageio, deploy
from edgeunet.files import write_bytes
from edgeunet.runtime import load
from edgeunet.runtime.backends.ort import open_flavour
from edgeunet.runtime.frames import Batch
from edgeunet.runtime.sinks.pictures import encode_picture
from support.bioimageio import image, package

ROOT = Path(__file__).parents[3]
# With pydantic 2.14, bioimageio.spec 0.5.12 fails in a serializer of its own.
CORE = ("bioimageio.core==0.11.0", "bioimageio.spec==0.5.12.0", "onnxruntime", "pydantic==2.12.5")
LICENSED = DeployOptions(license="MIT")
ZSCORE = {"id": "zero_mean_unit_variance", "kwargs": {"axes": ["y", "x"]}}
RANGE = {
    "id": "scale_range",
    "kwargs": {"axes": ["channel", "y", "x"], "min_percentile": 2, "max_percentile": 99},
}


def zscore(values: np.ndarray) -> np.ndarray:
    mean, std = values.mean((2, 3), keepdims=True), values.std((2, 3), keepdims=True)
    return np.asarray((values - mean) / (std + 1e-6))


def spread(values: np.ndarray) -> np.ndarray:
    low, high = np.percentile(values, (2, 99))
    return np.asarray((values - low) / (high - low + 1e-6))


FORMS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "gray": ({"channels": ("gray",), "shown": image(1)}, {}),
    "blue, green, red; deviations": (
        {"channels": ("b", "g", "r"), "shown": image(3), "pre": [ZSCORE], "before": zscore},
        {"channels": ("blue", "green", "red")},
    ),
    "16 bit, other channels; percentiles": (
        {
            "channels": ("red", "nir"), "shown": image(2, depth="uint16"), "pre": [RANGE],
            "before": spread, "halo": 4,
        },
        {},
    ),
}  # fmt: skip


def segmented(bundle: Path, frames: list[np.ndarray]) -> np.ndarray:
    with load(bundle, backend="onnxruntime") as segmenter:
        return segmenter(frames).masks


def frames_of(bundle: Path) -> list[np.ndarray]:
    """Golden frames at the size of the net's input."""
    opened = open_bundle(bundle)
    spec = opened.manifest.input
    size = (spec.height, spec.width)
    return [resize_frame(frame, size, spec.filter) for frame in opened.golden().frames]


@pytest.mark.parametrize("form", FORMS)
def test_our_own_origin_opens_the_package_again(form: str, tmp_path: Path) -> None:
    """With equal masks, and what is measured on each image, windows and halo as they were."""
    made, prepared = FORMS[form]
    preparation = {"preparation": Preparation(**prepared)} if prepared else {}
    source = package(tmp_path / "source", classes=("a", "b: #", "0o17"), **made)
    bundle = tmp_path / "bundle"
    export_bundle(bundle, ExportOptions(f"bioimageio:{source}", **preparation))
    steps: list[str] = []
    assert deploy(bundle, "bioimageio", tmp_path / "out", LICENSED, report=steps.append) == (
        "fp32",
    )
    assert steps == ["weights.onnx: 100.000% of the golden pixels as the runtime's"]
    described = load_yaml(tmp_path / "out" / "rdf.yaml")
    named = described["inputs"][0]["axes"][1]["channel_names"]
    assert named == (["red", "green", "blue"] if len(named) == 3 else list(made["channels"]))

    answered = described["outputs"][0]["axes"][1]["channel_names"]
    assert answered == ["a", "b_", "c_0o17"]  # format 0.5.3 takes identifiers alone
    export_bundle(tmp_path / "again", ExportOptions(f"bioimageio:{tmp_path / 'out/package.zip'}"))
    masks, expected = (
        segmented(tmp_path / name, frames_of(bundle)) for name in ("again", "bundle")
    )
    assert (masks == expected).mean() >= 0.999
    assert len(np.unique(masks)) > 1
    before, after = (open_bundle(tmp_path / name).manifest for name in ("bundle", "again"))
    assert after.classes == before.classes
    for name in ("channels", "depth", "statistics", "window"):
        assert getattr(after.input, name) == getattr(before.input, name)


def test_gate_is_in_the_graph_and_files_are_those_of_the_archive(
    gated_bundle: Path, tmp_path: Path
) -> None:
    deploy(gated_bundle, "bioimageio", tmp_path / "out", LICENSED)
    image = np.load(tmp_path / "out" / "image.npy")
    session = onnxruntime.InferenceSession(tmp_path / "out" / "weights.onnx")
    frames = frames_of(gated_bundle)
    raw = np.stack(frames).transpose(0, 3, 1, 2).astype(np.float32)
    (found,) = session.run(None, {"image": raw})
    assert (raw == image).all(axis=(1, 2, 3)).any()  # the test image is one of them
    opened = open_bundle(gated_bundle)
    with open_flavour(opened, "fp32") as backend:
        batch = backend.segment(Batch.of(frames))
    assert batch.presence is not None
    closed = batch.presence < np.array(opened.manifest.gate, np.float32)
    assert closed.any()
    assert (found[closed] == 0).all()
    assert (found.argmax(axis=1) == batch.masks).mean() >= 0.999
    with zipfile.ZipFile(tmp_path / "out" / "package.zip") as archive:
        packed = {name: archive.read(name) for name in archive.namelist()}
    assert packed == {
        path.name: path.read_bytes()
        for path in (tmp_path / "out").iterdir()
        if path.name not in ("package.zip", "deployment.json")
    }
    page = packed["README.md"].decode()
    assert "- The gate decides for each image" in page
    assert "- Its authors were not named" in page
    cover = cv2.imdecode(np.frombuffer(packed["cover.png"], np.uint8), cv2.IMREAD_COLOR)
    assert cover.shape == (256, 512, 3)


def test_package_with_other_masks_is_refused(
    fp32_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bioimageio, "scaling_of", lambda spec: np.ones((2, 3), np.float32))
    with pytest.raises(ParityError, match=r"weights\.onnx with the steps .* expected 99\.90%"):
        deploy(fp32_bundle, "bioimageio", tmp_path / "out", LICENSED)
    assert not (tmp_path / "out").exists()


@pytest.mark.slow(seconds=20)
def test_bioimageio_core_accepts_and_runs_the_package(fp32_bundle: Path, tmp_path: Path) -> None:
    """Its own test passes, and the example's mask is the runtime's."""
    options = DeployOptions(authors=("A. Uthor",), cite="Nobody. 10.1234/abc", license="MIT")
    deploy(fp32_bundle, "bioimageio", tmp_path / "out", options)
    python = tmp_path / "venv" / "bin" / "python"
    uv = [sys.executable, "-m", "uv"]
    subprocess.run(
        [*uv, "venv", "--quiet", "--python", sys.executable, python.parents[1]], check=True
    )
    install = [*uv, "pip", "install", "--quiet", "--python", python]
    installed = subprocess.run([*install, *CORE], capture_output=True, text=True)
    if "Failed to fetch" in installed.stderr:
        pytest.skip(f"no package index within reach: {installed.stderr.splitlines()[-1]}")
    assert installed.returncode == 0, installed.stderr
    frame = frames_of(fp32_bundle)[1]
    write_bytes(tmp_path / "frame.png", encode_picture(frame, ".png"))
    environment = {**os.environ, "BIOIMAGEIO_CACHE_PATH": str(tmp_path / "cache")}
    for command in (
        [python.parent / "bioimageio", "test", "out/package.zip"],
        [python, ROOT / "examples/bioimageio/segment.py", "out/rdf.yaml", "frame.png", "mask.png"],
    ):
        ran = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
        assert ran.returncode == 0, ran.stdout + ran.stderr
    (expected,) = segmented(fp32_bundle, [frame])
    np.testing.assert_array_equal(read_ids(tmp_path / "mask.png"), expected)
