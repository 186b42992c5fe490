"""Triton Inference Server with its Python backend, from NVIDIA's wheel of PyTriton."""

from __future__ import annotations

import os
import platform
import shutil
import socket
import subprocess
import sys
import sysconfig
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from support.commands import ROOT

VARIABLE = "EDGEUNET_TRITON"
"""Folder with what `install` puts into one: 260 MB, of which 85 come over the network."""

# The server needs none of what the wheel depends on, such as NumPy 1.
_PACKAGES = (("--no-deps", "nvidia-pytriton==0.7.0"), ("tritonclient[http]>=2.50",))
_BACKENDS = Path(__file__).parent / "triton_backends"


def install(folder: Path) -> Path:
    """Where the server and its client are; skips where they cannot be had."""
    if (platform.system(), platform.machine()) != ("Linux", "x86_64"):
        pytest.skip(f"there is no wheel of Triton for {platform.system()} {platform.machine()}")
    if VARIABLE in os.environ:
        return Path(os.environ[VARIABLE])
    for packages in _PACKAGES:
        command = ["uv", "pip", "install", "--quiet", "--python", sys.executable]
        done = subprocess.run(
            [sys.executable, "-m", *command, "--target", str(folder), *packages],
            capture_output=True,
            text=True,
        )
        if "error sending request" in done.stderr:
            pytest.skip(f"no package index within reach: {' '.join(done.stderr.split())}")
        assert done.returncode == 0, done.stderr
    return folder


@contextmanager
def serving(installed: Path, folder: Path, repositories: Sequence[Path]) -> Iterator[str]:
    """Address of a server that has loaded every model.

    Args:
        installed: see `install`. folder: for the server's own files.
    """
    triton = installed / "pytriton" / "tritonserver"
    backends = shutil.copytree(_BACKENDS, folder / "backends")
    shutil.copytree(triton / "backends" / "python", backends / "python")
    version = f"{sys.version_info[0]}.{sys.version_info[1]}"
    shutil.copy(
        triton / "python_backend_stubs" / version / "triton_python_backend_stub",
        backends / "python",
    )
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    libraries = [installed / "nvidia_pytriton.libs", sysconfig.get_config_var("LIBDIR")]
    environment = {
        **os.environ,
        "LD_LIBRARY_PATH": os.pathsep.join(map(str, libraries)),
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]),
        "PYTHONPATH": str(ROOT),
    }
    command = [str(triton / "bin" / "tritonserver"), "--http-address", "127.0.0.1"]
    command += ["--http-port", address.rpartition(":")[2], "--backend-directory", str(backends)]
    command += ["--allow-grpc", "false", "--allow-metrics", "false", "--exit-timeout-secs", "5"]
    for repository in repositories:
        command += ["--model-repository", str(repository)]
    log = folder / "server.log"
    with log.open("w") as written:
        server = subprocess.Popen(command, env=environment, stdout=written, stderr=written)
        try:
            _wait(server, address, log)
            yield address
            assert server.poll() is None, log.read_text()
        finally:
            server.terminate()
            server.wait(30)


def _wait(server: subprocess.Popen[bytes], address: str, log: Path) -> None:
    end = time.monotonic() + 120
    while time.monotonic() < end:
        assert server.poll() is None, log.read_text()
        try:
            with urllib.request.urlopen(f"http://{address}/v2/health/ready"):
                return
        except OSError:
            time.sleep(0.1)
    raise AssertionError(log.read_text())
