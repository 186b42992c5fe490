"""Target `qualcomm`: compiled for Hexagon and run in its emulator; what is refused."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper
from PIL import Image

from edgeunet.bundle.bundle import open_bundle
from edgeunet.errors import ExportError, MissingDependencyError, UnknownNameError, UsageError
from edgeunet.exporting.deploy import DeployOptions, deploy, open_deployed, qualcomm
from edgeunet.exporting.deploy.base import Deployment
from edgeunet.files import sha256
from edgeunet.parity.pixels import PixelsCollector
from edgeunet.runtime import load
from support.commands import ROOT, run_quietly
from support.small_bundle import names


@pytest.fixture(scope="module")
def deployed(int8_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("onnxruntime_qnn", reason="needs the extra [qnn]")
    output = tmp_path_factory.mktemp("qualcomm") / "out"
    assert deploy(int8_bundle, "qualcomm", output, DeployOptions(soc="qcs6490")) == ("int8.qnn",)
    return output


def test_the_whole_net_is_compiled(deployed: Path) -> None:
    assert names(deployed) == [
        "README.md",
        "check.npz",
        "deployment.json",
        "labels.txt",
        "model.v68.onnx",
    ]
    nodes = onnx.load(deployed / "model.v68.onnx").graph.node
    (part,) = (node for node in nodes if node.op_type == "EPContext")
    assert len(part.input) == 1, "the image alone, no weights from the CPU"
    assert {node.op_type for node in nodes}.isdisjoint({"Conv", "ConvTranspose", "Clip", "Concat"})


def test_frames_for_the_check_fit_the_graph(
    int8_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Golden frames have the size of the data, which may be another one."""
    bundle = open_bundle(int8_bundle)
    golden = bundle.golden()
    larger = replace(golden, frames=np.repeat(golden.frames, 2, axis=1))
    monkeypatch.setattr(type(bundle), "golden", lambda self: larger)
    deployment = Deployment(bundle, ("int8.qnn",), tmp_path, DeployOptions(), print)
    qualcomm._write_check(deployment)
    with np.load(tmp_path / "check.npz") as check:
        assert check["frames"].shape == golden.frames.shape
        assert check["masks"].shape == golden.frames.shape[:3]


def test_code_on_the_page_gives_the_runtimes_masks(
    deployed: Path, int8_bundle: Path, tmp_path: Path
) -> None:
    (code,) = re.findall("```python\n(.*?)```", (deployed / "README.md").read_text(), re.DOTALL)
    frames = open_bundle(int8_bundle).golden().frames[:1]
    np.save(tmp_path / "frames.npy", frames)
    code = code.replace("np.zeros((1, 64, 96, 3), np.uint8)", f'np.load("{tmp_path}/frames.npy")')
    run_quietly(deployed, sys.executable, "-c", f'{code}np.save("{tmp_path}/masks.npy", masks)')
    with load(int8_bundle, "onnxruntime") as segmenter:
        expected = segmenter(frames).masks
    assert (np.load(tmp_path / "masks.npy") == expected).mean() >= 0.99


def test_example_checks_itself_and_writes_a_mask(
    deployed: Path, int8_bundle: Path, tmp_path: Path
) -> None:
    frame = open_bundle(int8_bundle).golden().frames[0]
    Image.fromarray(frame).save(tmp_path / "image.png")
    example = ROOT / "examples/qualcomm/segment.py"
    graph = deployed / "model.v68.onnx"
    run_quietly(tmp_path, sys.executable, example, graph, "image.png", "mask.png")
    mask = np.asarray(Image.open(tmp_path / "mask.png"))
    with load(int8_bundle, "onnxruntime") as segmenter:
        assert (segmenter(frame[None]).masks[0] == mask).mean() >= 0.99


def test_example_refuses_a_changed_graph_and_one_that_hexagon_does_not_take(
    deployed: Path, tmp_path: Path
) -> None:
    folder = shutil.copytree(deployed, tmp_path / "copy")
    graph = folder / "model.v68.onnx"
    words = [sys.executable, ROOT / "examples/qualcomm/segment.py", graph, "image.png", "mask.png"]

    def said() -> str:
        ran = subprocess.run(words, capture_output=True, text=True, check=False, cwd=tmp_path)
        assert ran.returncode == 1 and "Traceback" not in ran.stderr
        return ran.stderr

    graph.write_bytes(graph.read_bytes()[:-1])
    assert "model.v68.onnx is not what was deployed: copy it again" in said()
    record = json.loads((folder / "deployment.json").read_text())
    record["files"][graph.name] = sha256(graph)
    (folder / "deployment.json").write_text(json.dumps(record))
    assert "Hexagon does not take model.v68.onnx (see README.md): " in said()


def test_parity_opens_it_and_refuses_an_altered_graph(deployed: Path, int8_bundle: Path) -> None:
    bundle = open_bundle(int8_bundle)
    with ExitStack() as stack:
        name, candidate = open_deployed(bundle, deployed, stack)
        collector = PixelsCollector(bundle.manifest.input, {name: candidate})
        collector.add(bundle.golden().frames[0])
        (found,) = collector.results()
        assert name == "qualcomm int8.qnn" and found.ok
    graph = deployed / "model.v68.onnx"
    content = graph.read_bytes()
    graph.write_bytes(content[:-1])
    try:
        with ExitStack() as stack, pytest.raises(UsageError, match=r"model\.v68\.onnx is missing"):
            open_deployed(bundle, deployed, stack)
    finally:
        graph.write_bytes(content)


def test_unknown_soc_is_named_with_the_nearest(int8_bundle: Path, tmp_path: Path) -> None:
    with pytest.raises(UnknownNameError, match=r"unknown SoC 'QCS6940'.*QCS6490"):
        deploy(int8_bundle, "qualcomm", tmp_path / "out", DeployOptions(soc="QCS6940"))
    assert not (tmp_path / "out").exists()


def test_soc_is_for_this_target_alone(fp32_bundle: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="onnx does not use it; qualcomm does"):
        deploy(fp32_bundle, "onnx", tmp_path / "out", DeployOptions(soc="v73"))


def test_bundle_without_int8_is_told_what_to_export(fp32_bundle: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"qualcomm takes int8\.qnn, but .* --int8"):
        deploy(fp32_bundle, "qualcomm", tmp_path / "out")


def test_missing_compiler_is_told_with_its_package(
    int8_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edgeunet.runtime.backends.providers.is_installed", lambda module: False)
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CPUExecutionProvider"])
    with pytest.raises(MissingDependencyError, match=r"\.\[qnn\]"):
        deploy(int8_bundle, "qualcomm", tmp_path / "out", DeployOptions(soc="v73"))
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("parts", "inputs", "left", "message"),
    [
        (0, 1, ["Conv"], "makes 0 parts"),
        (1, 1, ["Conv", "Add"], "leaves 1 convolutions and 2 nodes"),
        (1, 2, [], "hands it 1 weights"),
        (2, 1, ["ConvTranspose"], "makes 2 parts"),
    ],
)
def test_what_would_run_on_the_cpu_is_refused(
    parts: int, inputs: int, left: list[str], message: str
) -> None:
    nodes = [
        helper.make_node("EPContext", [f"in{i}" for i in range(inputs)], [f"part{index}"])
        for index in range(parts)
    ]
    nodes += [helper.make_node(kind, ["x"], [f"y{kind}"]) for kind in left]
    image = helper.make_tensor_value_info("in0", TensorProto.UINT8, [1])
    content = helper.make_model(helper.make_graph(nodes, "g", [image], [])).SerializeToString()
    with pytest.raises(ExportError, match=message):
        qualcomm._outside(content, "int8.qnn")
