"""A device with a GPU: the wheel runs TensorRT there without nvcc, g++ or PyCUDA."""

from __future__ import annotations

import json
import shutil
import site
import subprocess
import venv
from importlib import metadata
from pathlib import Path

import pytest

from support import fake_cuda, host_kernels
from support.compiling import compiled
from support.project import build_wheel

TESTS = Path(__file__).parent

DEVICE = [
    "numpy", "click", "onnxruntime", "opencv-python-headless", "pillow", "filelock", "packaging",
]  # fmt: skip
STAND_INS = [
    "onnx", "ml_dtypes", "protobuf", "typing_extensions",
    "pytest", "pluggy", "iniconfig", "pygments",
]  # fmt: skip

SCRIPT = """
import ctypes, importlib.util, json, shutil, sys
from pathlib import Path
from support import fake_cuda
from support.tensorrt_machine import install_gpu, install_stand_in, restored_modules

bundle, cuda, kernels = sys.argv[1:]
fake_cuda.path = lambda: Path(cuda)  # there is no g++ here to compile it
missing = [name for name in ("nvcc", "g++", "gcc", "cc", "c++") if shutil.which(name) is None]

import numpy as np
import edgeunet
from edgeunet.runtime import load
from edgeunet.runtime.gpu import libcuda
from edgeunet.runtime.gpu.kernels import compile as compiling

compiling.find_nvcc = lambda: None  # it looks into /usr/local/cuda too
from edgeunet.runtime.gpu.needs import gpu_needs

frames = list(np.random.default_rng(0).integers(0, 255, (3, 40, 56, 3), np.uint8))
with restored_modules():
    gpu = install_gpu()
    gpu.use(ctypes.CDLL(kernels))
    trt = install_stand_in("10.3.0")
    trt.scenario.card, trt.scenario.capability, trt.enqueue = "Orin", "sm87", gpu.enqueue
    libcuda.LIBRARY = "libcuda.so.1"  # by its name, as on a device
    with load(bundle, backend="tensorrt") as segmenter:
        name, masks = segmenter.backend.name, segmenter(frames).masks
    needs = {need.name: need.found or need.problem for need in gpu_needs()}
with load(bundle, backend="onnxruntime") as segmenter:
    wanted = segmenter(frames).masks
print(json.dumps({
    "package": edgeunet.__file__,
    "missing": missing,
    "pycuda": importlib.util.find_spec("pycuda") is not None,
    "torch": importlib.util.find_spec("torch") is not None,
    "backend": name,
    "classes": len(np.unique(wanted)),
    "differing": int(np.sum(masks != wanted)),
    "needs": needs,
}))
"""


def link_packages(names: list[str], target: Path) -> None:
    """Put installed packages into another environment of the same Python."""
    here = Path(site.getsitepackages()[0])
    for name in names:
        files = metadata.files(name)
        assert files is not None
        for entry in {path.parts[0] for path in files} - {"..", "__pycache__"}:
            if not (target / entry).exists():
                (target / entry).symlink_to(here / entry)


@pytest.mark.slow
def test_wheel_runs_tensorrt_without_a_compiler(fp32_bundle: Path, tmp_path: Path) -> None:
    cuda = fake_cuda.path()
    kernels = compiled(
        host_kernels.SOURCE, *host_kernels.FLAGS, includes=[host_kernels.SOURCES[0].parent]
    )
    venv.create(tmp_path / "venv", symlinks=True)
    (packages,) = (tmp_path / "venv").glob("lib/python*/site-packages")
    with build_wheel(tmp_path) as wheel:
        wheel.extractall(packages)  # all that installing a wheel of pure Python is
    link_packages([*DEVICE, *STAND_INS], packages)
    libraries = tmp_path / "libraries"
    libraries.mkdir()
    (libraries / "libcuda.so.1").symlink_to(cuda)
    bundle = shutil.copytree(fp32_bundle, tmp_path / "bundle")
    done = subprocess.run(
        [str(tmp_path / "venv/bin/python"), "-c", SCRIPT, str(bundle), str(cuda), str(kernels)],
        cwd=tmp_path,
        env={
            "PATH": str(tmp_path / "venv/bin"),
            "PYTHONPATH": str(TESTS),
            "LD_LIBRARY_PATH": str(libraries),
            "HOME": str(tmp_path),
        },
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert Path(found.pop("package")).is_relative_to(packages)
    needs = found.pop("needs")
    assert found.pop("classes") > 1
    assert found == {
        "missing": ["nvcc", "g++", "gcc", "cc", "c++"],
        "pycuda": False,
        "torch": False,
        "backend": "tensorrt",
        "differing": 0,
    }
    assert needs["driver calls"].startswith("by ctypes")
    assert needs["nvcc"] == "not found, and Orin (sm87) does not need it"
    engines = [path.name for path in (bundle / "engines").iterdir()]
    assert engines
    assert [name for name in engines if name.endswith(".cubin")] == []
