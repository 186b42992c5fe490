"""What holds for every target: what is recorded, refused and replaced."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import onnxruntime
import pytest
import yaml

from edgeunet.bundle.manifest import FLAVOURS, Precision
from edgeunet.errors import BundleError, OutputExistsError, UnknownNameError, UsageError
from edgeunet.exporting.deploy import TARGETS, DeployOptions, deploy, qualcomm, web
from edgeunet.files import sha256, write_json
from support.commands import ROOT
from support.rockchip import with_toolkit
from support.small_bundle import names, write_bundle

EVERY = pytest.mark.parametrize("target", list(TARGETS))
NEEDED = {
    "executorch": ["executorch.exir"],
    "litert": ["litert_torch"],
    "ncnn": ["ncnn", "pnnx"],
    "openvino": ["openvino"],
    "qualcomm": ["onnxruntime_qnn"],
}
HELD: dict[str, Precision] = {"qualcomm": "int8", "rockchip": "fp16"}
"""Of the bundle, for targets that take no FP32."""
HOSTILE = "a\n# \x1b[31m<script>alert(1)</script> [b](c) `d` {{ 7*7 }} \"' \\ | \N{MICROBE}"


class OnCpu:
    """In place of Hexagon's emulator: ONNX Runtime on the CPU."""

    provider = qualcomm.PLACEMENT.provider

    def open(self, content: bytes, options: Any) -> Any:
        return onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])


@pytest.fixture
def write(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> Any:
    """Deploys a tiny bundle, whose manifest is changed, to `out`; web without its runtime."""
    with_toolkit(monkeypatch, tmp_path_factory.mktemp("toolkit"))
    # Hexagon's compiler refuses a net without pairs, as the tiny bundle's is.
    monkeypatch.setattr(qualcomm, "PLACEMENT", OnCpu())
    monkeypatch.setattr(qualcomm, "compile_graph", lambda content, soc: content)
    monkeypatch.setattr(qualcomm, "_outside", lambda compiled, flavour: Counter())
    monkeypatch.setattr(web, "_package", lambda deployment: b"")
    monkeypatch.setattr(web, "_write_runtime", lambda folder, package: write_json(folder / "a", 0))

    def write(target: str, *, damaged: bool = False, **changed: Any) -> Path:
        for package in NEEDED.get(target, ()):
            pytest.importorskip(package, reason=f"needs the extra [{target}]")
        gated = "input" not in changed  # a gate does not fit windows
        precision = HELD.get(target, "fp32")
        bundle = write_bundle(tmp_path / "bundle", precision=precision, gated=gated)
        manifest = json.loads((bundle / "manifest.json").read_text())
        manifest["input"] |= changed.pop("input", {})
        (bundle / "manifest.json").write_text(json.dumps(manifest | changed))
        for graph in bundle.glob("*.onnx") if damaged else ():
            graph.write_bytes(graph.read_bytes()[:-1] + b"x")
        options = DeployOptions(
            license="MIT" if target == "bioimageio" else None,
            soc="v73" if target == "qualcomm" else None,
        )
        deploy(bundle, target, tmp_path / "out", options, force=True)
        return tmp_path / "out"

    return write


@EVERY
def test_target_says_what_it_makes_and_needs(target: str) -> None:
    known = TARGETS[target]
    assert known.name == target
    assert known.makes
    assert known.needs
    assert set(known.flavours) <= set(FLAVOURS["int8"])


@EVERY
def test_target_has_a_file_of_its_own_and_a_page(target: str) -> None:
    """Its module and its templates are found by its name."""
    module = Path(TARGETS[target].write.__code__.co_filename)
    assert module.parent.name == "deploy"
    assert (module.parent / "templates" / target / "README.md").is_file()


@EVERY
def test_target_has_a_short_example(target: str) -> None:
    found = [path for path in (ROOT / "examples" / target).iterdir() if path.is_file()]
    assert found
    assert all(len(path.read_text(encoding="utf-8").splitlines()) <= 60 for path in found)


@EVERY
def test_texts_of_a_bundle_are_only_texts(write: Any, target: str) -> None:
    plain = (write(target) / "README.md").read_text().count("\n")
    output = write(target, model=HOSTILE, weights=HOSTILE, classes=[HOSTILE, f"{HOSTILE} 2"])
    assert (output / "README.md").read_text().count("\n") == plain
    read = {".json": json.loads, ".xml": ElementTree.fromstring, ".yaml": yaml.safe_load}
    for path in output.rglob("*"):
        if path.suffix not in (".html", ".md", ".pbtxt", ".txt", *read):
            continue
        text = path.read_text(encoding="utf-8")
        assert "\x1b" not in text, path
        if path.suffix in (".html", ".md"):
            assert "<script>alert" not in text, path
            assert "[b](c)" not in text or path.suffix == ".html", path
        read.get(path.suffix, str)(text)


@EVERY
@pytest.mark.parametrize(
    ("changed", "takers"),
    [
        ({"statistics": {}}, {"triton", "bioimageio", "gstreamer"}),
        ({"window": {"blend": "gaussian"}}, {"triton", "gstreamer"}),
    ],
)
def test_input_that_a_target_cannot_make_is_refused(
    write: Any, tmp_path: Path, target: str, changed: dict[str, Any], takers: set[str]
) -> None:
    if target in takers:
        write(target, input=changed)
        return
    with pytest.raises(UsageError, match=r"normalised|windows"):
        write(target, input=changed)
    assert not (tmp_path / "out").exists()


@EVERY
def test_damaged_bundle_is_refused_and_nothing_is_left(
    write: Any, tmp_path: Path, target: str
) -> None:
    with pytest.raises(BundleError, match="has SHA-256"):
        write(target, damaged=True)
    assert {name.partition("/")[0] for name in names(tmp_path)} == {"bundle"}


def test_what_was_deployed_is_recorded(fp32_bundle: Path, tmp_path: Path) -> None:
    output = tmp_path / "out"
    assert deploy(fp32_bundle, "onnx", output) == ("fp32",)
    record = json.loads((output / "deployment.json").read_text())
    assert record["target"] == "onnx"
    assert record["flavours"] == ["fp32"]
    assert record["bundle"] == sha256(fp32_bundle / "manifest.json")
    assert record["files"] == {
        name: sha256(output / name) for name in names(output) if name != "deployment.json"
    }


def test_best_graph_is_deployed_or_the_one_asked_for(int8_bundle: Path, tmp_path: Path) -> None:
    assert deploy(int8_bundle, "onnx", tmp_path / "best") == ("int8.cpu",)
    half = DeployOptions(flavour="fp16")
    assert deploy(int8_bundle, "onnx", tmp_path / "half", half) == ("fp16",)


@pytest.mark.parametrize(
    ("target", "options", "message"),
    [
        ("onx", {}, "unknown target 'onx'. Did you mean 'onnx'?"),
        ("onnx", {"flavour": "int8"}, "expected a bundle with int8, but"),
        ("onnx", {"flavour": "int7"}, "unknown flavour 'int7'"),
        ("onnx", {"license": "MIT"}, "onnx does not use it; bioimageio does. Leave it out."),
        ("bioimageio", {}, "Pass --license with an SPDX identifier"),
        (
            "bioimageio",
            {"pixels": "any"},
            "bioimageio does not use it; onnx, openvino, triton do. ",
        ),
    ],
)
def test_refused(
    fp32_bundle: Path, tmp_path: Path, target: str, options: dict[str, str], message: str
) -> None:
    with pytest.raises((UnknownNameError, UsageError)) as refusal:
        deploy(fp32_bundle, target, tmp_path / "out", DeployOptions(**options))  # type: ignore[arg-type]
    assert message in str(refusal.value)
    assert names(tmp_path) == []


def test_only_an_earlier_deployment_is_replaced(fp32_bundle: Path, tmp_path: Path) -> None:
    output = tmp_path / "out"
    deploy(fp32_bundle, "onnx", output)
    with pytest.raises(OutputExistsError):
        deploy(fp32_bundle, "onnx", output)
    deploy(fp32_bundle, "onnx", output, force=True)
    (output / "mine.txt").write_text("kept")
    with pytest.raises(UsageError, match=r"holds 'mine\.txt'"):
        deploy(fp32_bundle, "onnx", output, force=True)
    assert (output / "mine.txt").read_text() == "kept"


def test_files_that_were_put_into_a_deployments_folders_are_kept(
    write: Any, tmp_path: Path
) -> None:
    output = write("triton")
    (place,) = output.glob("python/*/1")
    (place / "__pycache__").mkdir()
    (place / "__pycache__" / "model.pyc").touch()
    (place / "bundle" / "engines").mkdir()
    (place / "bundle" / "engines" / "a.engine").touch()
    write("triton")  # what the server made is no reason to refuse
    (output / "__pycache__").mkdir()  # triton has no program at the top
    with pytest.raises(UsageError, match=r"holds '__pycache__'"):
        write("triton")
    (output / "__pycache__").rmdir()
    (output / "onnx" / "mine").mkdir()
    (output / "onnx" / "mine" / "config.pbtxt").write_text("kept")
    with pytest.raises(UsageError, match=r"holds 'onnx/mine/config\.pbtxt'"):
        write("triton")
    assert (output / "onnx" / "mine" / "config.pbtxt").read_text() == "kept"


def test_compiled_programs_of_a_deployment_are_no_strangers(write: Any) -> None:
    """Importing a program that was deployed writes them beside it."""
    made = write("web") / "__pycache__"
    assert (made.parent / "serve.py").is_file()
    made.mkdir()
    (made / "serve.cpython-311.pyc").touch()
    write("web")
    assert not made.exists()


def test_nothing_is_left_of_a_deployment_that_fails(
    fp32_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(step: str) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        deploy(fp32_bundle, "onnx", tmp_path / "out", report=fails)
    assert list(tmp_path.iterdir()) == []
