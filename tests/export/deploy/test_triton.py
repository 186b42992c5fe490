"""Target `triton`: what is written, and that a real server answers with the runtime's masks.

The server has no ONNX Runtime backend, so a program in its Python backend stands in for that one.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import time
from dataclasses import replace
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from edgeunet.bundle.bundle import open_bundle, read_manifest
from edgeunet.bundle.manifest import InputSpec
from edgeunet.bundle.schema import encode
from edgeunet.bundle.steps import ImageStatistics
from edgeunet.exporting.deploy import DeployOptions, base, deploy
from edgeunet.files import sha256, write_json
from edgeunet.runtime import load
from support.commands import ROOT
from support.small_bundle import write_bundle
from support.triton_server import install, serving

EXAMPLE = ROOT / "examples" / "triton" / "client.py"
NAMES = ['a "b"\n', "ü 🦠 \\", "${x} </s>"]


@pytest.mark.parametrize(
    ("flavour", "kind", "tensorrt"),
    [
        ("int8.cpu", "KIND_CPU", False),
        ("int8", "KIND_GPU", True),
        ("fp16", "KIND_GPU", False),
        ("fp32", "KIND_AUTO", False),
    ],
)
def test_graphs_run_where_they_are_for(
    tmp_path: Path, flavour: Any, kind: str, tensorrt: bool
) -> None:
    bundle = write_bundle(tmp_path / "bundle", precision="int8", gated=True)
    deploy(bundle, "triton", tmp_path / "out", DeployOptions(flavour=flavour))
    (model,) = (tmp_path / "out" / "onnx").iterdir()
    config = (model / "config.pbtxt").read_text()
    assert f"kind: {kind}\n" in config
    assert ('name: "tensorrt"' in config) == tensorrt
    (program,) = (tmp_path / "out" / "python").iterdir()
    assert program.name == f"{model.name}_python"
    precision = flavour.partition(".")[0]
    config = (program / "config.pbtxt").read_text()
    assert f'key: "precision"\n  value {{ string_value: "{precision}" }}' in config
    assert open_bundle(program / "1" / "bundle").manifest == open_bundle(bundle).manifest


def test_depths_are_copied_too(tmp_path: Path) -> None:
    whole = write_bundle(tmp_path / "bundle")
    (whole / "depths").mkdir()
    shallow = write_bundle(whole / "depths" / "1")
    edit(shallow, arguments={"depth": 1})
    edit(whole, arguments={"depth": 2}, depths={"1": sha256(shallow / "manifest.json")})
    deploy(whole, "triton", tmp_path / "out")
    (copy,) = (tmp_path / "out").glob("python/*/1/bundle")
    assert open_bundle(copy).depths == (1, 2)


def edit(bundle: Path, **values: Any) -> None:
    """Change the manifest, whose hash only a bundle of several depths holds."""
    path = bundle / "manifest.json"
    write_json(path, encode(replace(read_manifest(path), **values)))


def test_input_that_no_graph_prepares_has_the_python_backend_alone(tmp_path: Path) -> None:
    bundle = write_bundle(tmp_path / "bundle")
    edit(bundle, input=InputSpec(16, 16, statistics=ImageStatistics()))
    steps: list[str] = []
    deploy(bundle, "triton", tmp_path / "out", report=steps.append)
    assert steps[0].startswith("without onnx: expected an input that fixed numbers normalise")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "README.md", "deployment.json", "python",
    ]  # fmt: skip
    page = (tmp_path / "out" / "README.md").read_text()
    assert "There is no model for the ONNX Runtime backend: expected an input" in page


class FakeBackend(ModuleType):
    """What the Python backend offers to programs, without a server."""

    Tensor = SimpleNamespace(from_dlpack=lambda name, capsule: name)
    TritonError = str

    @staticmethod
    def InferenceResponse(outputs: Any = None, error: str | None = None) -> Any:
        return SimpleNamespace(outputs=outputs, error=error)

    @staticmethod
    def get_input_tensor_by_name(request: npt.NDArray[Any], name: str) -> npt.NDArray[Any]:
        return request


def test_request_that_fails_does_not_fail_the_others_of_its_batch(
    fp32_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    deploy(fp32_bundle, "triton", tmp_path / "out")
    (place,) = (tmp_path / "out").glob("python/*/1")
    name = "triton_python_backend_utils"
    monkeypatch.setitem(sys.modules, name, FakeBackend(name))
    spec = spec_from_file_location("deployed", place / "model.py")
    assert spec is not None and spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    model = module.TritonPythonModel()
    config = {
        "parameters": {
            "backend": {"string_value": "auto"},
            "precision": {"string_value": "fp32"},
        },
        "output": [{"name": "masks"}],
    }
    model.initialize(
        {
            "model_config": json.dumps(config),
            "model_instance_kind": "CPU",
            "model_repository": str(place.parent),
            "model_version": "1",
        }
    )
    good, bad = np.zeros((2, 64, 96, 3), np.uint8), np.zeros((1, 0, 96, 3), np.uint8)
    first, refused, last = model.execute([good, bad, good])
    assert (first.outputs, first.error) == (last.outputs, last.error) == (["masks"], None)
    assert "frame 0 has shape (0, 96, 3)" in refused.error
    model.finalize()


@pytest.mark.slow(seconds=15)
def test_server(
    gated_bundle: Path, fp32_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    installed = install(tmp_path / "installed")
    monkeypatch.setattr(sys, "path", [*sys.path, str(installed)])
    gated, any_size = tmp_path / "gated", tmp_path / "any"
    deploy(gated_bundle, "triton", gated)
    form = DeployOptions(pixels="any", confidence=True)
    # Names that could end a string of a configuration.
    named = shutil.copytree(fp32_bundle, tmp_path / "named")
    edit(named, classes=tuple(NAMES))
    deploy(named, "triton", any_size, form)
    (any_size / "onnx" / "mobile_unet").rename(any_size / "onnx" / "any")
    (any_size / "python" / "mobile_unet_python").rename(any_size / "python" / "any_python")
    repositories = [path for folder in (gated, any_size) for path in folder.glob("[op]*")]
    with serving(installed, tmp_path, repositories) as address:
        for name in ("mobile_unet", "mobile_unet_python"):
            compare_gated(Client(address, name), gated_bundle)
            refuses_bad_requests(Client(address, name))
        for name in ("any", "any_python"):
            compare_any_size(Client(address, name), fp32_bundle)
        code_on_the_page_runs(gated / "README.md", address)
        example_runs(address, installed, fp32_bundle, tmp_path)


class Client:
    """One model on the server."""

    def __init__(self, address: str, model: str) -> None:
        from tritonclient import http

        self.http = http
        self.server = http.InferenceServerClient(address, concurrency=16)
        self.model = model

    def ask(self, frames: npt.NDArray[Any], kind: str = "UINT8") -> Any:
        """The answer on its way."""
        tensor = self.http.InferInput("frames", frames.shape, kind)
        tensor.set_data_from_numpy(frames)
        return self.server.async_infer(self.model, [tensor])


def compare_gated(client: Client, bundle: Path) -> None:
    """Many frames at once come back as the runtime's masks, each its own, and in batches."""
    frames = open_bundle(bundle).golden().frames
    with load(bundle, "onnxruntime") as segmenter:
        expected = segmenter(list(frames))
    asked = [client.ask(frames[index % 4][None]) for index in range(40)]
    for index, answer in enumerate(asked):
        found = answer.get_result()
        masks, presence = found.as_numpy("masks"), found.as_numpy("presence")
        assert np.mean(masks[0] == expected.masks[index % 4]) >= 0.99
        np.testing.assert_allclose(presence[0], expected.presence[index % 4], atol=0.05)
    assert len(np.unique(expected.masks)) > 1, "nothing to compare"
    counted, patience = {"inference_count": 0}, time.monotonic() + 10
    while counted["inference_count"] < 40:  # it counts after it has answered
        assert time.monotonic() < patience, counted
        (counted,) = client.server.get_inference_statistics(client.model)["model_stats"]
    assert counted["execution_count"] < counted["inference_count"]
    assert max(each["batch_size"] for each in counted["batch_stats"]) > 1
    # Labels go with the one output that has a value for each class.
    wanted = client.http.InferRequestedOutput("presence", class_count=1)
    tensor = client.http.InferInput("frames", (1, *frames.shape[1:]), "UINT8")
    tensor.set_data_from_numpy(frames[:1])
    top = client.server.infer(client.model, [tensor], outputs=[wanted]).as_numpy("presence")
    assert top[0, 0].decode().endswith(":background")


def refuses_bad_requests(client: Client) -> None:
    """Each gets an error that says why, and good ones among them their masks."""
    good = np.zeros((1, 64, 96, 3), np.uint8)
    bad = [
        (np.zeros((1, 64, 97, 3), np.uint8), "UINT8", "unexpected shape for input 'frames'"),
        (np.zeros((1, 64, 96, 4), np.uint8), "UINT8", "unexpected shape for input 'frames'"),
        (good.astype(np.float32), "FP32", "data-type is 'FP32'"),
        (np.zeros((5, 64, 96, 3), np.uint8), "UINT8", "batch-size must be <= 4"),
        (good[:0], "UINT8", "Expected 18432, got 0"),
        (good[0], "UINT8", "batch-size must be <= 4"),
    ]
    asked = [(client.ask(good), client.ask(frames, kind), why) for frames, kind, why in bad]
    for fine, refused, why in asked:
        with pytest.raises(client.http.InferenceServerException, match=re.escape(why)):
            refused.get_result()
        assert fine.get_result().as_numpy("masks").shape == (1, 64, 96)


def compare_any_size(client: Client, bundle: Path) -> None:
    """Frames of many sizes at once, with confidences; names of classes are as they were."""
    rng = np.random.default_rng(0)
    (golden, *_) = open_bundle(bundle).golden().frames
    with load(bundle, "onnxruntime") as segmenter:
        for _ in range(2):
            sizes = [(64, 96), (50, 70), (97, 33), (50, 70), (64, 96)]
            frames = [np.roll(np.resize(golden, (*size, 3)), rng.integers(9), 1) for size in sizes]
            asked = [client.ask(frame[None]) for frame in frames]
            for frame, answer in zip(frames, asked, strict=True):
                found, expected = answer.get_result(), segmenter([frame], confidence=True)
                assert np.mean(found.as_numpy("masks") == expected.masks) >= 0.999
                assert expected.confidence is not None
                differences = found.as_numpy("confidence").astype(int) - expected.confidence
                assert np.mean(np.abs(differences) <= 1) >= 0.999
    with pytest.raises(client.http.InferenceServerException):
        client.ask(np.zeros((1, 0, 96, 3), np.uint8)).get_result()
    parameters = client.server.get_model_config(client.model)["parameters"]
    assert json.loads(parameters["classes"]["string_value"]) == NAMES


def code_on_the_page_runs(page: Path, address: str) -> None:
    (code,) = re.findall("```python\n(.*?)```", page.read_text(), re.DOTALL)
    found: dict[str, Any] = {}
    exec(code.replace("localhost:8000", address), found)
    assert found["masks"].shape == (1, 64, 96)


def example_runs(address: str, installed: Path, bundle: Path, folder: Path) -> None:
    (frame, *_) = open_bundle(bundle).golden().frames
    Image.fromarray(np.resize(frame, (80, 100, 3))).save(folder / "one.png")
    Image.fromarray(frame).save(folder / "two.png")
    command = [sys.executable, str(EXAMPLE), "any_python", "one.png", "two.png", "--url", address]
    done = subprocess.run(
        command,
        cwd=folder,
        env={"PYTHONPATH": str(installed)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert re.match(r"one\.png: .*\d%", done.stdout, re.DOTALL)
    assert picture(folder / "masks" / "one.png").shape == (80, 100)
    with load(bundle, "onnxruntime") as segmenter:
        (expected,) = segmenter([frame]).masks
    assert np.mean(picture(folder / "masks" / "two.png") == expected) >= 0.999


def picture(path: Path) -> npt.NDArray[np.uint8]:
    with Image.open(path) as opened:
        return np.asarray(opened)


def test_example_is_short() -> None:
    assert len(EXAMPLE.read_text().splitlines()) <= 60
    assert (base.TEMPLATES / "triton" / "model.py").is_file()
