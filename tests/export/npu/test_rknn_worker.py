"""The process that calls rknn-toolkit2, on what stands in for that; and how it ends."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest

from edgeunet.bundle.manifest import InputSpec
from edgeunet.bundle.rknn import mean_and_std
from edgeunet.errors import ExportError
from edgeunet.exporting.npu import rknn_toolkit as toolkit
from edgeunet.exporting.npu.one_image import one_image
from edgeunet.runtime.backends.ort import OrtNet
from edgeunet.runtime.backends.preprocess import Preprocessor
from edgeunet.user_folders import cache_folder
from support.pixels import small_net
from support.rockchip import with_toolkit

SPEC = InputSpec(16, 24)


@pytest.fixture
def graph(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A net for the stand-in of the toolkit, which takes the place of the real one."""
    with_toolkit(monkeypatch, tmp_path)
    model = one_image(small_net(SPEC, 3))
    onnx.save(model, tmp_path / "net.onnx")
    return tmp_path / "net.onnx"


def build(toolkit_: toolkit.Toolkit, graph: Path, output: Path | None = None) -> None:
    mean, std = mean_and_std(SPEC)
    toolkit_.build(graph, soc="rk3588", mean=mean, std=std, output=output)


def build_and_run(toolkit_: toolkit.Toolkit, graph: Path) -> None:
    build(toolkit_, graph)
    toolkit_.run(np.zeros((1, SPEC.height, SPEC.width, 3), np.uint8))


def test_process_compiles_and_simulates(graph: Path, tmp_path: Path) -> None:
    frames = np.random.default_rng(3).integers(0, 256, (2, SPEC.height, SPEC.width, 3), np.uint8)
    image = Preprocessor(SPEC)(list(frames))
    with toolkit.Toolkit(lambda step: None) as process, OrtNet(graph) as net:
        place = process._place
        build(process, graph, tmp_path / "net.rknn")
        logits, presence = process.run(frames)
        again, _ = process.run(frames[:1])
        np.testing.assert_array_equal(again, logits[:1])
        for index in range(2):
            expected, _ = net.run(image[index : index + 1])
            np.testing.assert_allclose(logits[index : index + 1], expected, atol=1e-3)
    assert presence.shape == (2, 3) and (tmp_path / "net.rknn").exists()
    assert not place.exists(), "its temporary files are left"
    assert process._process.returncode is not None


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ("raise", r"ValueError: Fancy is not supported! Its log is .*rknn-toolkit2\.log"),
        ("exit", r"ValueError: Fancy is not supported! Its log"),
        ("crash", r"it was ended by SIGSEGV"),
        ("code", r"build failed without a reason"),
        ("none", r"run failed without a reason"),
        ("table", r"its log has no table of layers"),
    ],
)
def test_failure_quotes_the_log_and_keeps_it(
    graph: Path, monkeypatch: pytest.MonkeyPatch, fault: str, message: str
) -> None:
    monkeypatch.setenv("EDGEUNET_FAKE_RKNN", fault)
    with (
        pytest.raises(ExportError, match=message) as error,
        toolkit.Toolkit(lambda step: None) as process,
    ):
        build_and_run(process, graph)
    kept = (cache_folder() / "rknn-toolkit2.log").read_text()
    assert ("Traceback" in kept) == (fault in ("raise", "exit"))
    assert "\n" not in str(error.value) and "Traceback" not in str(error.value)


def test_process_that_hangs_is_ended(graph: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(toolkit, "_SECONDS", 0)
    with (
        pytest.raises(ExportError, match=r"it took more than 0 s"),
        toolkit.Toolkit(lambda step: None) as process,
    ):
        build(process, graph)
    assert process._process.returncode is not None
