"""What was deployed is compared with its bundle again, and nothing else is."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import pytest

from edgeunet.bundle.bundle import open_bundle
from edgeunet.errors import UsageError
from edgeunet.exporting.deploy import TARGETS, DeployOptions, deploy, open_deployed
from edgeunet.files import sha256
from support.commands import call, data, fails

MODULES = {
    "executorch": "executorch.exir",
    "litert": "litert_torch",
    "ncnn": "pnnx",
    "onnx": "onnxruntime",
    "openvino": "openvino",
    "qualcomm": "onnxruntime_qnn",
}
ONE_SOC = DeployOptions(soc="v73")


@pytest.mark.parametrize("target", MODULES)
def test_parity_compares_what_was_deployed(
    int8_bundle: Path, tmp_path: Path, target: str, request: pytest.FixtureRequest
) -> None:
    pytest.importorskip(MODULES[target], reason=f"needs the extra [{target}]")
    if target == "ncnn":
        output = request.getfixturevalue("ncnn_deployment")
    else:
        output = tmp_path / "out"
        deploy(int8_bundle, target, output, ONE_SOC if target == "qualcomm" else None)
    (flavour,) = json.loads((output / "deployment.json").read_text())["flavours"]
    (compared,) = data("parity", int8_bundle, "--deployed", output)["pixels"]
    assert compared["name"] == f"{target} {flavour}"
    assert compared["ok"] and 0.99 <= compared["agreement"] <= 1


def test_table_names_the_callable_targets() -> None:
    assert {name for name, each in TARGETS.items() if each.runner} == set(MODULES)
    assert [name for name, each in TARGETS.items() if each.backend] == ["rockchip"]


def test_frames_of_any_size_and_two_of_one_target(fp32_bundle: Path, tmp_path: Path) -> None:
    deploy(fp32_bundle, "onnx", tmp_path / "any", DeployOptions(pixels="any"))
    deploy(fp32_bundle, "onnx", tmp_path / "fixed")
    folders = [word for name in ("any", "fixed") for word in ("--deployed", tmp_path / name)]
    report = data("parity", fp32_bundle, *folders)
    assert [each["name"] for each in report["pixels"]] == [
        "onnx fp32",
        f"onnx fp32, {tmp_path / 'fixed'}",
    ]


def test_deployment_out_of_tolerance_fails(
    fp32_bundle: Path, wrong_bundle: Path, tmp_path: Path
) -> None:
    output = tmp_path / "out"
    deploy(fp32_bundle, "onnx", output)
    deploy(wrong_bundle, "onnx", tmp_path / "wrong")
    shutil.copy(tmp_path / "wrong" / "model.onnx", output / "model.onnx")
    record = json.loads((output / "deployment.json").read_text())
    record["files"]["model.onnx"] = sha256(output / "model.onnx")
    (output / "deployment.json").write_text(json.dumps(record))
    result = call("parity", fp32_bundle, "--deployed", output)
    assert result.exit_code == 1
    assert "onnx fp32" in result.stdout and "OUT OF TOLERANCE" in result.stdout


def changed(**values: object) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        path = folder / "deployment.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | values))

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda folder: (folder / "model.onnx").write_bytes(b"other"), "was changed since"),
        (lambda folder: (folder / "model.onnx").unlink(), "is missing or was changed"),
        (lambda folder: (folder / "deployment.json").unlink(), "is no deployment"),
        (lambda folder: (folder / "deployment.json").write_text("[]"), "is no deployment"),
        (changed(target="cloud"), "is no deployment"),
        (changed(target=[]), "is no deployment"),
        (changed(flavours=[]), "is no deployment"),
        (changed(files={"../manifest.json": "0"}), "is no deployment"),
        (changed(bundle="0"), "another bundle"),
        (changed(target="cpp"), "is for cpp, which is not called from here; "),
    ],
)
def test_what_is_no_sound_deployment_is_refused(
    fp32_bundle: Path, tmp_path: Path, change: Callable[[Path], None], message: str
) -> None:
    deploy(fp32_bundle, "onnx", tmp_path / "out")
    change(tmp_path / "out")
    with ExitStack() as stack, pytest.raises(UsageError, match=message):
        open_deployed(open_bundle(fp32_bundle), tmp_path / "out", stack)


def test_program_that_is_not_ours_is_not_run(
    int8_bundle: Path, ncnn_deployment: Path, tmp_path: Path
) -> None:
    output = ncnn_deployment
    (output / "segment.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
    record = json.loads((output / "deployment.json").read_text())
    record["files"]["segment.py"] = sha256(output / "segment.py")
    (output / "deployment.json").write_text(json.dumps(record))
    assert "is not the program" in fails(2, "parity", int8_bundle, "--deployed", output)
    assert not (tmp_path / "ran").exists()
