"""`edgeunet inspect`: what it prints of a bundle, and damaged ones."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from support.commands import call, data, fails


def test_inspect_prints_the_manifest(fp32_bundle: Path) -> None:
    manifest = data("inspect", fp32_bundle)
    assert manifest.pop("engines") == []
    assert manifest == json.loads((fp32_bundle / "manifest.json").read_text())
    assert next(iter(manifest)) == "schema_version"


def test_inspect_describes_the_bundle(int8_bundle: Path) -> None:
    result = call("inspect", int8_bundle)
    assert result.exit_code == 0
    for words in (
        "mobile_unet (tiny)",
        "width=8",
        "64x96 red, green, blue (uint8, 0 to 255)",
        "batch 1 to 4",
        "int8.cpu (",
    ):
        assert words in result.stdout
    assert "all hashes match" in result.stdout


def test_inspect_describes_steps_that_only_some_inputs_have(
    fp32_bundle: Path, tmp_path: Path
) -> None:
    plain = call("inspect", fp32_bundle).stdout
    assert "statistics" not in plain
    assert "normalised  mean 0.485 0.456 0.406, deviation 0.229 0.224 0.225, of values" in plain
    copy = shutil.copytree(fp32_bundle, tmp_path / "copy")
    manifest = json.loads((copy / "manifest.json").read_text())
    manifest["input"] |= {"statistics": {"pixels": "nonzero"}, "window": {"crop": True}}
    (copy / "manifest.json").write_text(json.dumps(manifest))
    shown = call("inspect", copy).stdout
    assert "statistics  mean and deviation of each channel without zeros\n" in shown
    assert "normalised" not in shown
    assert "window      windows every 0.5 of their side, Gaussian weights, within the box" in shown


def test_inspect_refuses_a_damaged_bundle(fp32_bundle: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(fp32_bundle, tmp_path / "copy")
    with (copy / "golden.npz").open("ab") as file:
        file.write(b"!")
    message = fails(1, "inspect", copy)
    assert "golden.npz has SHA-256" in message
    assert "copy the bundle again" in message


def test_names_in_a_bundle_cannot_control_the_terminal(fp32_bundle: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(fp32_bundle, tmp_path / "copy")
    manifest = json.loads((copy / "manifest.json").read_text())
    for change in ({"classes": ["a", "\x1b[2Jb", "c\rerror: gone"]}, {"weights": "\x1b]0;me\x07"}):
        manifest.update(change)
    (copy / "manifest.json").write_text(json.dumps(manifest))
    result = call("inspect", copy)
    assert result.exit_code == 0
    assert "a, \\x1b[2Jb, c\\rerror: gone" in result.stdout
    assert "mobile_unet (\\x1b]0;me\\x07)" in result.stdout
    assert "\x1b" not in result.stdout
