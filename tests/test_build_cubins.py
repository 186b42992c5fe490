"""`make cubins`: it knows every listed GPU, and gives the same bytes again."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

from edgeunet.runtime.gpu.kernels.shipped import list_shipped
from support.commands import ROOT

COMPILE = """
import sys
import build_cubins
(toolkit,) = (each for each in build_cubins.TOOLKITS if sys.argv[1] in each.capabilities)
sys.stdout.buffer.write(build_cubins.compile_cubin(toolkit, sys.argv[1]))
"""


@pytest.fixture
def build_cubins(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(ROOT / "tools"))
    import build_cubins

    return build_cubins


def test_list_is_that_of_the_tool(build_cubins: ModuleType) -> None:
    wanted = {
        capability: toolkit.cuda
        for toolkit in build_cubins.TOOLKITS
        for capability in toolkit.capabilities
    }
    assert {name: kernels.cuda for name, kernels in list_shipped().items()} == wanted, (
        "run `make cubins`"
    )


@pytest.mark.slow
def test_cubin_of_a_jetson_comes_out_the_same(build_cubins: ModuleType, tmp_path: Path) -> None:
    toolkit = build_cubins.TOOLKITS[0]
    try:
        toolkit.install()
    except subprocess.CalledProcessError:
        pytest.skip("no package index within reach, or no NVRTC for this machine")
    paths = [str(ROOT / "tools"), str(ROOT)]
    done = subprocess.run(
        [sys.executable, "-c", COMPILE, "sm87"],
        cwd=tmp_path, env={"PYTHONPATH": ":".join(paths)}, capture_output=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr.decode()
    assert hashlib.sha256(done.stdout).hexdigest() == list_shipped()["sm87"].sha256
