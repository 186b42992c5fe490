"""What targets have to work with: graphs that are proved, and templates."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from jinja2 import UndefinedError

from edgeunet.bundle.bundle import open_bundle
from edgeunet.errors import ParityError
from edgeunet.exporting.deploy import Deployment, DeployOptions, base
from edgeunet.exporting.graphs.pixels import PixelsForm, write_pixels
from edgeunet.runtime import load
from edgeunet.runtime.backends.ort import OrtNet


def deployment(bundle: Path, folder: Path, steps: list[str]) -> Deployment:
    return Deployment(open_bundle(bundle), ("fp32",), folder, DeployOptions(), steps.append)


def test_graph_is_written_and_compared_with_the_runtime(fp32_bundle: Path, tmp_path: Path) -> None:
    steps: list[str] = []
    made = deployment(fp32_bundle, tmp_path, steps)
    path = made.write_pixels("models/net.onnx", "fp32", PixelsForm(confidence=True))
    assert path == tmp_path / "models" / "net.onnx"
    assert steps == ["models/net.onnx: 100.000% of the golden pixels as the runtime's"]
    frames = made.bundle.golden().frames
    with OrtNet(path) as net, load(fp32_bundle) as segmenter:
        masks, confidence = net.run(frames)
        np.testing.assert_array_equal(masks, [result.mask for result in segmenter(list(frames))])
    assert confidence.shape == masks.shape


def test_graph_with_other_masks_is_refused(
    fp32_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def negated(bundle: object, flavour: object, path: Path, form: object) -> None:
        write_pixels(bundle, flavour, path, form)  # type: ignore[arg-type]
        model = onnx.load(path)
        nodes = model.graph.node
        index = next(i for i, node in enumerate(nodes) if "logits" in node.input)
        nodes[index].input[0] = "turned"
        nodes.insert(index, onnx.helper.make_node("Neg", ["logits"], ["turned"]))
        onnx.save(model, path)

    monkeypatch.setattr(base, "write_pixels", negated)
    with pytest.raises(ParityError, match=r"net\.onnx gives .* expected 99\.90%\. `edgeunet par"):
        deployment(fp32_bundle, tmp_path, []).write_pixels("net.onnx", "fp32")


def test_template_must_get_all_of_its_values(fp32_bundle: Path, tmp_path: Path) -> None:
    with pytest.raises(UndefinedError):
        deployment(fp32_bundle, tmp_path, []).write_template("onnx/README.md", "README.md")
    assert not (tmp_path / "README.md").exists()
