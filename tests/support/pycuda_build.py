"""The real PyCUDA for the fake libcuda: built if need be, in a minute or two, and then kept."""

from __future__ import annotations

import ctypes
import importlib.util
import os
import re
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

from edgeunet.runtime.gpu.kernels.compile import find_nvcc
from support import fake_cuda
from support.compiling import compiled, kept_folder

VERSION = "2026.1"  # whose names pycuda_2026.1.json holds
_STUB = 'API int {name}() {{ return fake_unsupported("{name}"); }}'


def pycuda_folder() -> Path:
    """Where PyCUDA is: that of this Python, or a build of it. Skips without a CUDA toolkit."""
    found = importlib.util.find_spec("pycuda")
    if found is not None and found.origin is not None:
        return Path(found.origin).parents[1]
    toolkit = _toolkit()
    if toolkit is None:
        pytest.skip("PyCUDA is not installed, and there is no CUDA toolkit to build it with")
    folder = kept_folder() / f"pycuda-{VERSION}-{sysconfig.get_config_var('SOABI')}"
    if not folder.exists():
        _build(folder, toolkit)
    return folder


def _toolkit() -> Path | None:
    """The folder that holds the CUDA toolkit's headers, wherever its nvcc is called from."""
    nvcc = find_nvcc()
    known = [os.environ.get("CUDA_HOME"), "/usr/local/cuda", nvcc and Path(nvcc).parents[1]]
    return next(
        (Path(each) for each in known if each and Path(each, "include/cuda.h").is_file()), None
    )


def _build(folder: Path, toolkit: Path) -> None:
    """Without cuRAND, which many a toolkit lacks, and unoptimised, which takes half the time."""
    work = folder.with_name(f"{folder.name}-{os.getpid()}")
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir()
    (work / "libcuda.cpp").write_text("int nothing_to_link;\n")
    named = compiled(work / "libcuda.cpp", "-Wl,-soname,libcuda.so.1")
    (work / "libcuda.so").symlink_to(named)
    (work / ".aksetup-defaults.py").write_text(
        f"CUDA_ENABLE_CURAND = False\nCUDADRV_LIB_DIR = [{str(work)!r}]\n"
        f"CUDA_ROOT = {str(toolkit)!r}\n"
    )
    done = subprocess.run(
        [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check",
         "--no-binary", "pycuda", "--target", str(work / "site"), f"pycuda=={VERSION}"],
        env={**os.environ, "HOME": str(work), "CFLAGS": "-O0 -g0 -w",
             "LDFLAGS": "-Wl,--no-as-needed"},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    if "No matching distribution" in done.stderr or "ConnectionError" in done.stderr:
        pytest.skip(f"no package index within reach: {done.stderr.splitlines()[-1]}")
    assert done.returncode == 0, done.stderr[-2000:]
    (work / "site").rename(folder)
    shutil.rmtree(work)


def libcuda_for(pycuda: Path, folder: Path) -> Path:
    """A folder with a libcuda.so.1 that has all calls that PyCUDA is linked with."""
    (module,) = (pycuda / "pycuda").glob("_driver*.so")
    names = subprocess.run(
        ["nm", "-D", "--undefined-only", str(module)], capture_output=True, text=True, check=True
    ).stdout
    simulated = ctypes.CDLL(str(fake_cuda.path()))
    missing = [
        name for name in re.findall(r"\b(cu[A-Z]\w+)", names) if not hasattr(simulated, name)
    ]
    source = folder / "libcuda_for_pycuda.cpp"
    source.write_text(
        "\n".join(['#include "libcuda.cpp"', *(_STUB.format(name=name) for name in missing), ""])
    )
    made = compiled(source, *fake_cuda.FLAGS, includes=[fake_cuda.SOURCE.parent])
    (folder / "libcuda.so.1").symlink_to(made)
    return folder
