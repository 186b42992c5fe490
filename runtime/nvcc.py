"""Where the CUDA compiler is."""

from __future__ import annotations

import os
import shutil
from pathlib import Path


def find_nvcc() -> str | None:
    """Path of nvcc: on PATH, in CUDA_HOME, or where NVIDIA's packages put it; None elsewhere."""
    homes = [Path(home) for home in (os.environ.get("CUDA_HOME"), "/usr/local/cuda") if home]
    beside = os.pathsep.join(str(home / "bin") for home in homes)
    return shutil.which("nvcc") or shutil.which("nvcc", path=beside)
