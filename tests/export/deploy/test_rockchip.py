"""Target `rockchip`: the maker's tool as a stand-in, and once the real one with its simulator."""

from __future__ import annotations

import json
import platform
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

import edgeunet
from edgeunet.bundle.bundle import open_bundle
from edgeunet.bundle.manifest import InputSpec
from edgeunet.bundle.steps import ImageStatistics, Window
from edgeunet.data.images import read_ids
from edgeunet.errors import EdgeUNetError, ExportError, ParityError, UnknownNameError, UsageError
from edgeunet.exporting.deploy import DeployOptions, deploy, rockchip
from edgeunet.exporting.npu import rknn_toolkit
from edgeunet.files import sha256
from support.commands import ROOT, call, data, fails
from support.made import Made
from support.rockchip import PACKAGES, board, with_toolkit
from support.small_bundle import names

FILES = ["README.md", "bundle", "deployment.json", "labels.txt"]


@pytest.fixture(autouse=True)
def _toolkit(
    monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory,
    request: pytest.FixtureRequest,
) -> None:  # fmt: skip
    if "real" not in request.node.name:
        with_toolkit(monkeypatch, tmp_path_factory.mktemp("toolkit"))


@pytest.fixture
def deployed(int8_bundle: Path, made: Made) -> Path:
    """The bundle deployed by the stand-in. It is the test's own."""

    def make(folder: Path) -> None:
        told: list[str] = []
        assert deploy(int8_bundle, "rockchip", folder / "out", report=told.append) == ("int8.qnn",)
        (folder / "told").write_text("\n".join(told))

    return made("rockchip", make) / "out"


def test_deployment_is_a_bundle_with_the_compiled_net(int8_bundle: Path, deployed: Path) -> None:
    assert names(deployed) == FILES
    assert (deployed / "labels.txt").read_text() == "background\ncell\ndividing\n"
    bundle = open_bundle(deployed / "bundle")
    assert bundle.manifest.precision == "int8"
    assert bundle.manifest.files["model.rknn"] == sha256(deployed / "bundle" / "model.rknn")
    assert names(deployed / "bundle") == sorted(
        [*open_bundle(int8_bundle).manifest.files, "manifest.json", "model.rknn", "rknn.json"]
    )
    card = json.loads((deployed / "bundle" / "rknn.json").read_text())
    assert (card["soc"], card["precision"], card["toolkit"]) == ("rk3588", "int8", "2.5.0")
    assert card["layers"] == {"FLOAT16 on NPU": 8, "INT8 on NPU": 5, "FLOAT16 on CPU": 1}
    assert card["cycles"] == 13824 * 2 + 68 + 755 + 458 + 3122
    told = (deployed.parent / "told").read_text()
    assert "model.rknn: rk3588, layers: 8 FLOAT16 on NPU, 5 INT8 on NPU, 1 FLOAT16 on CPU" in told
    assert "Reshape:/cgm/Flatten_output_0_rs on the CPU" in told
    page = (deployed / "README.md").read_text()
    assert "All 3 cores" in page and "No board has run this" in page


def test_parity_has_a_stage_for_it(cells_bundle: Path, tmp_path: Path) -> None:
    deploy(cells_bundle, "rockchip", tmp_path / "out")
    report = data("parity", cells_bundle, "--deployed", tmp_path / "out")
    stage = report["stages"][-1]
    assert stage["name"] == "rockchip int8" and stage["wanted"] == 0.99
    assert 0.99 <= stage["agreement"] <= 1 and report["ok"]
    assert report["backend"] == "rknn simulator rk3588"


def test_simulator_out_of_tolerance_fails_parity(
    int8_bundle: Path, deployed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EDGEUNET_FAKE_RKNN", "shift")
    result = call("parity", int8_bundle, "--deployed", deployed)
    assert result.exit_code == 1 and "first out of tolerance: rockchip int8" in result.stdout


def test_changed_net_is_refused_before_it_is_simulated(int8_bundle: Path, deployed: Path) -> None:
    path = deployed / "bundle" / "model.rknn"
    path.write_bytes(path.read_bytes()[:-1])
    message = fails(2, "parity", int8_bundle, "--deployed", deployed)
    assert "model.rknn is missing or was changed since" in message


def test_fp16_for_a_soc_of_one_core(int8_bundle: Path, tmp_path: Path) -> None:
    options = DeployOptions(flavour="fp16", target="rk3566")
    assert deploy(int8_bundle, "rockchip", tmp_path / "out", options) == ("fp16",)
    assert open_bundle(tmp_path / "out" / "bundle").manifest.precision == "fp16"
    assert "The NPU has one core" in (tmp_path / "out" / "README.md").read_text()
    stage = data("parity", int8_bundle, "--deployed", tmp_path / "out")["stages"][-1]
    assert (stage["name"], stage["wanted"]) == ("rockchip fp16", 0.999)


def test_example_gives_the_runtimes_mask(int8_bundle: Path, deployed: Path, tmp_path: Path) -> None:
    frame = open_bundle(int8_bundle).golden().frames[0]
    Image.fromarray(frame).save(tmp_path / "frame.png")
    ran = subprocess.run(
        [sys.executable, ROOT / "examples/rockchip/segment.py", deployed, "frame.png", "mask.png",
         "overlay.png"],
        cwd=tmp_path, env={"PYTHONPATH": str(PACKAGES)}, capture_output=True, text=True,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr
    assert "background: " in ran.stdout
    with board(), edgeunet.load(deployed / "bundle", "rknn") as segmenter:
        expected = segmenter([frame]).masks[0]
    assert (read_ids(tmp_path / "mask.png") == expected).mean() >= 0.999


def test_example_refuses_a_changed_net(deployed: Path, tmp_path: Path) -> None:
    net = deployed / "bundle" / "model.rknn"
    net.write_bytes(net.read_bytes()[:-1])
    words = [ROOT / "examples/rockchip/segment.py", deployed, "frame.png", "mask.png", "o.png"]
    ran = subprocess.run(
        [sys.executable, *words],
        cwd=tmp_path, env={"PYTHONPATH": str(PACKAGES)}, capture_output=True, text=True,
    )  # fmt: skip
    assert ran.returncode == 1
    assert ran.stderr.strip().endswith("model.rknn is not what was deployed: copy it again")


@pytest.mark.parametrize(
    ("fault", "error", "message"),
    [
        (
            "raise",
            ExportError,
            r"rknn-toolkit2 2\.5\.0: ValueError: Fancy is not supported! Its log",
        ),
        ("shift", ParityError, r"model\.rknn gives .*; expected 99\.00%"),
    ],
)
def test_what_goes_wrong_is_named_and_nothing_is_left(
    int8_bundle: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    fault: str,
    error: type[Exception],
    message: str,
) -> None:
    monkeypatch.setenv("EDGEUNET_FAKE_RKNN", fault)
    with pytest.raises(error, match=message):
        deploy(int8_bundle, "rockchip", tmp_path / "out")
    assert names(tmp_path) == []


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        (InputSpec(8, 8, depth="uint16", levels=(0, 4095)), r"frames are uint16; the NPU takes"),
        (InputSpec(8, 8, statistics=ImageStatistics()), r"images are normalised by the "),
        (InputSpec(8, 8, window=Window()), r"the net sees .*; rockchip runs whole frames"),
    ],
)
def test_inputs_that_are_no_bytes_are_refused(spec: InputSpec, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        rockchip.check_input(spec)


def test_unknown_soc_and_bundle_without_its_graphs(
    int8_bundle: Path, fp32_bundle: Path, tmp_path: Path
) -> None:
    with pytest.raises(UnknownNameError, match=r"SoC 'rk3589'\. Did you mean 'rk3588'\? Known: rk"):
        deploy(int8_bundle, "rockchip", tmp_path / "out", DeployOptions(target="rk3589"))
    with pytest.raises(UsageError, match=r"rockchip takes int8.qnn, fp16, but .* holds fp32"):
        deploy(fp32_bundle, "rockchip", tmp_path / "out")
    message = fails(
        2, "deploy", fp32_bundle, "--to", "onnx", "--target", "rk3588", "-o", tmp_path / "o"
    )
    assert "got target, and onnx does not use it; rockchip does" in message


@pytest.mark.slow(seconds=60)
def test_real_toolkit_compiles_and_its_simulator_agrees(cells_bundle: Path, tmp_path: Path) -> None:
    """It makes its environment in the user's cache if that is not there: 0.2 GB to fetch."""
    if (platform.system(), platform.machine()) != ("Linux", "x86_64"):
        pytest.skip("rknn-toolkit2 is for Linux on x86-64")
    try:
        rknn_toolkit.ensure_environment(lambda step: None)
    except EdgeUNetError as error:
        pytest.skip(f"rknn-toolkit2 cannot be installed here: {error}")
    output = tmp_path / "out"
    assert deploy(cells_bundle, "rockchip", output) == ("int8.qnn",)
    card = json.loads((output / "bundle" / "rknn.json").read_text())
    assert card["layers"]["INT8 on NPU"] > 70 and card["on_cpu"] == []
    assert card["layers"]["FLOAT16 on NPU"] == 1, "the head, which has 16 bits on Hexagon"
    assert card["cycles"] > 100_000
    size = (output / "bundle" / "model.rknn").stat().st_size
    assert 500_000 < size < 2_000_000
