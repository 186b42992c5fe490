"""What holds for every target: what is recorded, refused and replaced."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from edgeunet.bundle.manifest import FLAVOURS
from edgeunet.errors import OutputExistsError, UnknownNameError, UsageError
from edgeunet.exporting.deploy import TARGETS, DeployOptions, deploy
from edgeunet.files import sha256
from support.small_bundle import names

EVERY = pytest.mark.parametrize("target", list(TARGETS))


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
        ("bioimageio", {"pixels": "any"}, "bioimageio does not use it; onnx"),
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


def test_nothing_is_left_of_a_deployment_that_fails(
    fp32_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(step: str) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        deploy(fp32_bundle, "onnx", tmp_path / "out", report=fails)
    assert list(tmp_path.iterdir()) == []
