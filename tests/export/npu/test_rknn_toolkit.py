"""rknn-toolkit2's environment, made once and whole; and how its prints become errors."""

from __future__ import annotations

import json
import platform
import shutil
import sys
from pathlib import Path

import pytest

from edgeunet.errors import ExportError, UsageError
from edgeunet.exporting.npu import rknn_toolkit as toolkit
from edgeunet.user_folders import cache_folder
from support.rockchip import PACKAGES

FAKE_PYTHON = """#!/bin/sh
# Makes an "environment" whose Python notes what pip is asked for.
echo made >> {log}
mkdir -p "$3/bin"
cat > "$3/bin/python" <<'END'
#!/bin/sh
echo "$@" >> {log}
test -e {offline} || exit 0
echo "WARNING: Retrying" >&2
echo "ERROR: No matching distribution found for rknn-toolkit2==2.5.0" >&2
exit 1
END
chmod +x "$3/bin/python"
"""


@pytest.fixture
def log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache that is empty, and what stands in for Python; returns the log of its calls."""
    calls, python = tmp_path / "calls", tmp_path / "python"
    python.write_text(FAKE_PYTHON.format(log=calls, offline=tmp_path / "offline"))
    python.chmod(0o755)
    monkeypatch.setattr(toolkit, "_python", lambda: str(python))
    monkeypatch.setattr(platform, "machine", lambda: "x86_64")
    monkeypatch.setattr(platform, "system", lambda: "Linux")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return calls


def test_environment_is_made_once_and_told(log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[str] = []
    python = toolkit.ensure_environment(told.append)
    assert python == cache_folder() / "rknn-toolkit2" / "bin" / "python"
    assert len(told) == 1 and "rknn-toolkit2 2.5.0" in told[0] and "0.2 GB" in told[0]
    made, pip = log.read_text().splitlines()
    assert made == "made" and pip.endswith(" ".join(toolkit.PINS))
    assert "--no-deps" in pip and "torch" not in pip
    assert toolkit.ensure_environment(told.append) == python
    assert len(told) == 1 and len(log.read_text().splitlines()) == 2
    monkeypatch.setattr(toolkit, "PINS", ("rknn-toolkit2==3",))
    toolkit.ensure_environment(told.append)
    assert len(told) == 2 and log.read_text().splitlines()[-1].endswith("rknn-toolkit2==3")
    python.unlink()  # as an upgrade of the system would
    toolkit.ensure_environment(told.append)
    assert len(told) == 3 and python.exists()


def test_offline_it_says_what_to_do_and_leaves_nothing(log: Path, tmp_path: Path) -> None:
    (tmp_path / "offline").touch()
    with pytest.raises(ExportError) as error:
        toolkit.ensure_environment(lambda step: None)
    assert "No matching distribution found for rknn-toolkit2==2.5.0 Without a network" in str(
        error.value
    )
    assert "pip download --no-deps -d wheels rknn-toolkit2==2.5.0 " in str(error.value)
    assert "PIP_FIND_LINKS=wheels" in str(error.value)
    assert list(cache_folder().iterdir()) == []
    (tmp_path / "offline").unlink()
    assert toolkit.ensure_environment(lambda step: None).exists()


def test_machine_or_python_without_wheels_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(platform, "machine", lambda: "aarch64")
        with pytest.raises(UsageError, match=r"is for Linux on x86-64, and this is .* on aarch64"):
            toolkit.ensure_environment(lambda step: None)
    monkeypatch.setattr(sys, "version_info", (3, 14, 0))
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ExportError, match=r"has wheels for Python 3\.10, 3\.11, 3\.12.* is 3\.14"):
        toolkit._python()
    shutil.copy("/bin/true", tmp_path / "python3.12")
    assert toolkit._python() == str(tmp_path / "python3.12")
    monkeypatch.setattr(sys, "version_info", (3, 11, 0))
    assert toolkit._python() == sys.executable


def test_pins_are_exact_and_hold_what_the_worker_imports() -> None:
    names = {pin.partition("==")[0] for pin in toolkit.PINS}
    assert all(pin.count("==") == 1 for pin in toolkit.PINS)
    assert {"rknn-toolkit2", "numpy", "onnx", "onnxruntime", "setuptools"} <= names


def test_layers_are_read_from_the_compilers_log() -> None:
    layers = toolkit.read_layers((PACKAGES / "rknn" / "build.log").read_text())
    assert [layer.operator for layer in layers[:3]] == ["InputOperator", "Conv", "exDataConvert"]
    stem, cpu = layers[1], [each for each in layers if each.processor == "CPU"]
    assert (stem.type, stem.cycles, stem.name) == (
        "FLOAT16",
        13824,
        "Conv:/encoder/stem/stem.0/Conv",
    )
    assert [layer.operator for layer in cpu if not layer.is_end] == ["Reshape"]
    assert toolkit.read_layers("I rknn building done.\nD RKNN: [1:2] nonsense\n") == ()


@pytest.mark.parametrize(
    ("log", "reason"),
    [
        ("", ""),
        ("I rknn-toolkit2 version: 2.5.0\nW Set temperate env\n", ""),
        (
            "\x1b[1;31mE\x1b[0m \x1b[1;31minit_runtime: no simulator!\x1b[0m\n"
            "I ===================== WARN(0) =====================\n"
            "\x1b[1;31mE\x1b[0m \x1b[1;31mrknn-toolkit2 version: 2.5.0\x1b[0m\n",
            "init_runtime: no simulator!",
        ),
        ("I Loading : 3%\rI Loading : 100%\nSegmentation fault\n", "Segmentation fault"),
        ("ValueError: x\n" + "D RKNN: table\n" * 5 + "RefusedError: build\n", "ValueError: x"),
    ],
)
def test_reason_is_the_last_line_that_says_something(log: str, reason: str) -> None:
    assert toolkit.reason_in(log) == reason


def test_record_is_json(log: Path) -> None:
    python = toolkit.ensure_environment(lambda step: None)
    assert json.loads((python.parents[1] / "pins.json").read_text()) == [*toolkit.PINS]
