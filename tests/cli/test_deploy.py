"""`edgeunet deploy`: what it prints, and that its help names every target."""

from __future__ import annotations

from pathlib import Path

from edgeunet.exporting.deploy import TARGETS
from support.commands import call, data, fails, succeeds


def test_help_says_what_each_target_needs() -> None:
    shown = " ".join(succeeds("deploy", "--help").stdout.split())
    for name, target in TARGETS.items():
        assert f"{name} Makes {target.makes}. Needs {target.needs}." in shown


def test_deploys(fp32_bundle: Path, tmp_path: Path) -> None:
    output = tmp_path / "out"
    result = call("deploy", fp32_bundle, "--to", "onnx", "-o", output)
    assert result.stdout == f"wrote {output} (fp32); its README.md says how to run it\n"
    assert "100.000% of the golden pixels as the runtime's" in result.stderr
    found = data("deploy", fp32_bundle, "--to", "onnx", "-o", output, "--force")
    assert found == {"target": "onnx", "flavours": ["fp32"], "output": str(output)}


def test_bad_calls(fp32_bundle: Path, tmp_path: Path) -> None:
    out = ("-o", tmp_path / "out")
    assert "Did you mean 'onnx'?" in fails(2, "deploy", fp32_bundle, "--to", "onx", *out)
    message = fails(2, "deploy", fp32_bundle, "--to", "onnx", "--flavour", "int8.cpu", *out)
    assert "expected a bundle with int8.cpu, but" in message
    assert "is not a bundle" in fails(1, "deploy", tmp_path, "--to", "onnx", *out)
