"""Target `ncnn`: pnnx converts the net, ncnn runs it, and what they do not take is named."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from PIL import Image

import edgeunet
from edgeunet.bundle.bundle import open_bundle
from edgeunet.bundle.manifest import InputSpec
from edgeunet.data.images import read_ids
from edgeunet.errors import ExportError, MissingDependencyError, ParityError, UsageError
from edgeunet.exporting.deploy import deploy
from edgeunet.exporting.deploy import ncnn as target
from edgeunet.files import write_json
from edgeunet.runtime.backends.postprocess import open_classes
from support.commands import ROOT
from support.pixels import Small, noise
from support.small_bundle import names

pytest.importorskip("ncnn", reason="needs the extra [ncnn]")
pytest.importorskip("pnnx", reason="needs the extra [ncnn]")

FILES = ["README.md", "deployment.json", "model.json", "model.ncnn.bin", "model.ncnn.param"]
SPECS = {
    "bgr": InputSpec(24, 40, channels=("blue", "green", "red"), std=(0.2, 0.25, 0.4)),
    "gray of RGB": InputSpec(24, 32, channels=("gray",)),
    "two channels of 16 bits": InputSpec(
        24, 32, channels=("a", "b"), depth="int16", levels=(-1000, 3000), mean=(0.1, 0.2),
        std=(0.2, 0.3),
    ),
}  # fmt: skip


def test_example_gives_the_runtimes_mask(
    int8_bundle: Path, ncnn_deployment: Path, tmp_path: Path
) -> None:
    """With FP16 weights, which take half of the place."""
    output = ncnn_deployment
    assert names(output) == [*FILES, "segment.py"]
    size = (int8_bundle / "model.fp32.onnx").stat().st_size
    assert (output / "model.ncnn.bin").stat().st_size < 0.55 * size
    frame = open_bundle(int8_bundle).golden().frames[0]
    Image.fromarray(frame).save(tmp_path / "frame.png")
    paths = [output, "frame.png", "mask.png", "overlay.png"]
    ran = subprocess.run(
        [sys.executable, ROOT / "examples/ncnn/segment.py", *paths],
        cwd=tmp_path, capture_output=True, text=True,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr
    assert "background: " in ran.stdout
    with edgeunet.load(int8_bundle, precision="fp32") as segmenter:
        expected = segmenter([frame]).masks[0]
    assert (read_ids(tmp_path / "mask.png") == expected).mean() >= 0.999


@pytest.mark.parametrize("name", SPECS)
def test_program_gives_the_runtimes_masks(name: str, tmp_path: Path) -> None:
    """For other channels and depths, with a gate that closes some classes, or all but one."""
    spec = SPECS[name]
    target.check_input(spec)
    small = Small.of(spec, 4, (0.0, 0.45, 0.5, 1.0), stride=2)
    model = target.to_logits(
        ir.from_proto(onnx.shape_inference.infer_shapes(small.model)), small.manifest
    )
    target._convert(target.pnnx_program(), model, "fp32", tmp_path)
    write_json(tmp_path / "model.json", target.about(small.manifest))
    (tmp_path / "segment.py").write_bytes((target.TEMPLATES / "ncnn/segment.py").read_bytes())
    frames = noise(spec, count=2)
    kept = frames[0].copy()
    found = target._runner(tmp_path, "fp32")(np.stack(frames))
    np.testing.assert_array_equal(frames[0], kept)
    outputs = small.outputs(frames)
    assert outputs.presence is not None
    assert not open_classes(outputs.presence, small.manifest.gate).all()
    assert np.count_nonzero(found != small.finish()(*outputs, frames[0].shape[:2])) <= 2
    for gate, left in (([1, 1, 1, 1], 0), ([1, 1, 0, 1], 2)) if name == "bgr" else ():
        write_json(tmp_path / "model.json", target.about(small.manifest) | {"gate": gate})
        np.testing.assert_array_equal(target._runner(tmp_path, "fp32")(frames[0][None])[0], left)


def test_frames_that_the_program_cannot_prepare_are_refused() -> None:
    with pytest.raises(UsageError, match=r"the net's size, 26x40, are padded"):
        target.check_input(InputSpec(26, 40, resize="pad"))


def net_of(op: str) -> Callable[..., ir.Model]:
    """Puts an operator behind the logits of the converted net."""

    whole = target.to_logits

    def changed(model: ir.Model, manifest: Any) -> ir.Model:
        graph = whole(model, manifest).graph
        node = ir.node(op, [graph.outputs[0]], {"blocksize": 1} if op == "DepthToSpace" else {})
        node.outputs[0].type, node.outputs[0].shape = graph.outputs[0].type, graph.outputs[0].shape
        graph.append(node)
        graph.outputs[:] = [node.outputs[0]]
        return model

    return changed


def test_what_is_wrong_is_named_and_nothing_is_left(
    fp32_bundle: Path,
    tmp_path: Path,
    tmp_path_factory: pytest.TempPathFactory,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    slow = tmp_path_factory.mktemp("slow") / "pnnx"
    slow.write_text("#!/bin/sh\nexec sleep 60\n")
    slow.chmod(0o755)

    def refuses(error: type[Exception], message: str) -> None:
        with pytest.raises(error, match=message):
            deploy(fp32_bundle, "ncnn", tmp_path / "out")
        assert names(tmp_path) == []

    with monkeypatch.context() as patch:
        shuffled, negative = net_of("DepthToSpace"), net_of("Neg")
        patch.setattr(target, "to_logits", shuffled)
        refuses(ExportError, r"ncnn has no layer DepthToSpace, which pnnx made of the graph\. Use")
        patch.setattr(target, "to_logits", negative)
        refuses(ParityError, r"model\.ncnn\.param gives .* expected 99\.90%")
        patch.setattr(target, "pnnx_program", lambda: Path("/bin/false"))
        refuses(ExportError, r"pnnx does not take the graph: it ended with code 1\. Use another")
        patch.setattr(target, "pnnx_program", lambda: Path("/bin/true"))
        refuses(ExportError, r"pnnx does not take the graph: it says no reason\. Use another")
        patch.setattr(target, "pnnx_program", lambda: slow.parent / "none" / "pnnx")
        refuses(ExportError, r"none/pnnx does not start: No such file.*Install it again.* pnnx\.$")
        patch.setattr(target, "pnnx_program", lambda: slow)
        patch.setattr(target, "_SECONDS", 0.2)
        refuses(ExportError, r"pnnx took more than 0\.2 s\. Use another target")
    for module in ("ncnn", "pnnx"):
        with monkeypatch.context() as patch:
            patch.setitem(sys.modules, module, None)
            refuses(MissingDependencyError, rf"{module} is not installed.*\[ncnn\]")
