"""GStreamer with elements in Python, as Debian has them."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from .commands import ROOT

DRIVER = Path(__file__).with_name("gst_driver.py")
PYTHON = "/usr/bin/python3"
NEEDED = "it needs Debian's gstreamer1.0-tools, gstreamer1.0-python3-plugin-loader, python3-gst-1.0"


def environment(deployed: Path, registry: Path) -> dict[str, str]:
    """What finds the element of a deployment, and edgeunet for it; nothing goes to the home.

    Skips without GStreamer, and if its Python cannot load the packages of this one.
    """
    if shutil.which("gst-launch-1.0") is None or not Path(PYTHON).exists():
        pytest.skip(f"no GStreamer: {NEEDED}")
    bare = {
        "PATH": "/usr/bin:/bin",  # GStreamer's Python is where the first python3 of the PATH is
        "GST_REGISTRY": str(registry),
        "HOME": str(registry.parent),
        "OMP_NUM_THREADS": "1",
    }
    loader = subprocess.run(["gst-inspect-1.0", "python"], env=bare, capture_output=True)
    modules = subprocess.run([PYTHON, "-c", "from gi.repository import Gst"], capture_output=True)
    if loader.returncode or modules.returncode:
        pytest.skip(f"GStreamer has no elements in Python: {NEEDED}")
    code = "import sys; print(*sys.version_info[:2])"
    version = subprocess.run([PYTHON, "-c", code], capture_output=True, text=True).stdout
    if version.split() != [str(number) for number in sys.version_info[:2]]:
        pytest.skip(f"packages are for Python {sys.version_info[:2]}, GStreamer's is {version}")
    packages = [each for each in sys.path if each.endswith("site-packages")]
    path = os.pathsep.join([str(ROOT), *packages])
    return {**bare, "GST_PLUGIN_PATH": str(deployed), "PYTHONPATH": path}


def launch(env: dict[str, str], pipeline: str) -> subprocess.CompletedProcess[str]:
    """Run `gst-launch-1.0 -m`, which prints messages."""
    command = ["gst-launch-1.0", "-m", *pipeline.split()]
    return subprocess.run(command, env=env, capture_output=True, text=True, timeout=60)


def drive(env: dict[str, str], *cases: dict[str, Any]) -> list[dict[str, Any]]:
    """What each of some pipelines gives, see `gst_driver.py`."""
    done = subprocess.run(
        [PYTHON, DRIVER], env=env, input=json.dumps(cases), capture_output=True, text=True,
        timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    results: list[dict[str, Any]] = json.loads(done.stdout)
    return results
