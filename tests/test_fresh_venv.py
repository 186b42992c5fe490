"""A device: a fresh environment with `[cpu,video]` alone runs a bundle, without torch.

On the oldest Python that is supported, which a Jetson has, if this machine has it.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

SCRIPT = """
import importlib.util, json, sys
import numpy as np
import edgeunet.runtime
with edgeunet.runtime.load(sys.argv[1]) as segmenter:
    golden = segmenter.bundle.golden()
    agreement = float(np.mean(segmenter(list(golden.frames)).masks == golden.masks))
heavy = ["torch", "onnx", "safetensors"]
print(json.dumps({
    "agreement": agreement,
    "installed": [name for name in heavy if importlib.util.find_spec(name)],
    "loaded": [name for name in [*heavy, "edgeunet.models"] if name in sys.modules],
}))
"""


OLDEST = "3.10"


def oldest_python() -> str | None:
    """The oldest supported Python, if this machine has one."""
    pyenv = Path.home().glob(f".pyenv/versions/{OLDEST}.*/bin/python")
    for candidate in (shutil.which(f"python{OLDEST}"), *map(str, pyenv)):
        if candidate and subprocess.run([candidate, "-c", ""], capture_output=True).returncode == 0:
            return candidate
    return None


@pytest.mark.slow
def test_a_device_needs_no_torch(cells_bundle: Path, tmp_path: Path) -> None:
    oldest = oldest_python()
    # With our pip, and without bytecode of what is never imported: that is half of the time.
    venv = [oldest or sys.executable, "-m", "venv", "--without-pip", str(tmp_path / "venv")]
    subprocess.run(venv, check=True)
    python = tmp_path / "venv" / "bin" / "python"
    pip = [sys.executable, "-m", "pip", "--python", str(python), "--disable-pip-version-check"]
    pip += ["install", "--quiet", "--no-compile"]
    # The pins are for the Python that develops it.
    constraints = [] if oldest else ["--constraint", str(ROOT / "constraints.txt")]
    installed = subprocess.run(
        [*pip, *constraints, f"{ROOT}[cpu,video]"], capture_output=True, text=True, cwd=tmp_path
    )
    if "No matching distribution" in installed.stderr or "ConnectionError" in installed.stderr:
        pytest.skip(f"no package index within reach: {installed.stderr.splitlines()[-1]}")
    assert installed.returncode == 0, installed.stderr
    ran = subprocess.run(
        [str(python), "-c", SCRIPT, str(cells_bundle)], capture_output=True, text=True, cwd=tmp_path
    )
    assert ran.returncode == 0, ran.stderr
    found = json.loads(ran.stdout)
    assert found["installed"] == []
    assert found["loaded"] == []
    assert found["agreement"] >= 0.98
    export = subprocess.run(
        [str(python), "-m", "edgeunet", "export", "--model", "unet"],
        capture_output=True,
        text=True,
        cwd=tmp_path,
    )
    assert export.returncode == 1
    assert "pip install '.[export]'" in export.stderr
