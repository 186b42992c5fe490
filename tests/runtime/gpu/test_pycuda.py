"""The real PyCUDA in the place of ctypes, linked with the fake libcuda, in a process of its own."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from edgeunet.bundle.bundle import open_bundle
from edgeunet.data.cells import CellFrame
from edgeunet.runtime.backends import create_backend
from edgeunet.runtime.frames import Batch
from support.commands import ROOT
from support.gpu_machine import frames, gpu_machine
from support.pycuda_build import libcuda_for, pycuda_folder

SIZES = [(64, 96), (50, 71), (130, 200), (1, 1)]

SCRIPT = """
import sys, threading
sys.path.insert(0, "tests")
from pathlib import Path
import numpy as np
import pycuda.driver
from edgeunet.bundle.bundle import open_bundle
from edgeunet.data.cells import CellFrame
from edgeunet.errors import BackendError
from edgeunet.runtime.backends import create_backend
from edgeunet.runtime.frames import Batch
from edgeunet.runtime.gpu import cuda
from support import fake_cuda
from support.gpu_machine import gpu_machine

folder, integrated = Path(sys.argv[1]), sys.argv[2] == "True"
fake_cuda.path = lambda: folder / "libcuda.so.1"
bundle = open_bundle(folder / "bundle")
with np.load(folder / "frames.npz") as given:
    batches = [Batch.of(list(given[name])) for name in given.files]
with gpu_machine(pycuda=True, integrated=integrated) as machine:
    assert cuda.load_driver() is pycuda.driver
    with create_backend("tensorrt", bundle) as backend:
        masks = [each.masks.copy() for each in backend.stream(iter(batches))]
        found = {}
        def work(i):
            found[i] = backend.segment(Batch.of(batches[i].pixels)).masks
        threads = [threading.Thread(target=work, args=(i,)) for i in range(len(batches))]
        for thread in threads: thread.start()
        for thread in threads: thread.join()
        for i, each in enumerate(masks):
            np.testing.assert_array_equal(each, found[i])
        assert machine.driver.launched > 0
np.savez(folder / "masks.npz", *masks)

with gpu_machine(pycuda=True) as machine:
    with create_backend("tensorrt", bundle) as backend:
        results = backend.stream(Batch.of(batches[0].pixels) for _ in range(20))
        next(results)
        machine.driver.lost = True
        try:
            list(results)
        except BackendError as error:
            print("told:", error)
print("ended")
"""


@pytest.mark.slow
def test_backend_on_pycuda_gives_the_masks_of_ctypes(
    gated_bundle: Path, gated_frames: list[CellFrame], tmp_path: Path
) -> None:
    pycuda = pycuda_folder()
    libcuda_for(pycuda, tmp_path)
    bundle = open_bundle(shutil.copytree(gated_bundle, tmp_path / "bundle"))
    images = [frame.image for frame in gated_frames]
    batches = [images[start : start + 3] for start in range(0, len(images), 3)]
    batches += [frames(1 + index, size, index) for index, size in enumerate(SIZES)]
    np.savez(tmp_path / "frames.npz", *(np.stack(batch) for batch in batches))
    with gpu_machine(), create_backend("tensorrt", bundle) as backend:
        wanted = [backend.segment(Batch.of(batch)).masks for batch in batches]
    assert any(masks.any() for masks in wanted) and not all(masks.any() for masks in wanted)
    for integrated in (False, True):
        done = subprocess.run(
            [sys.executable, "-c", SCRIPT, str(tmp_path), str(integrated)],
            cwd=ROOT, capture_output=True, text=True, check=False, timeout=300,
            env={
                **os.environ, "LD_LIBRARY_PATH": str(tmp_path),
                "PYTHONPATH": os.pathsep.join([str(ROOT), str(pycuda)]),
            },
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        assert "unspecified launch failure" in done.stdout and done.stdout.endswith("ended\n")
        with np.load(tmp_path / "masks.npz") as found:
            for masks, name in zip(wanted, found.files, strict=True):
                np.testing.assert_array_equal(found[name], masks)
