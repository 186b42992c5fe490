"""Stand-ins for a machine that runs engines: GPU and TensorRT."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pytest

from edgeunet.runtime.frames import Frame
from support.fake_cuda import CUBIN, FakeCuda
from support.host_kernels import load_host_kernels
from support.tensorrt_machine import install_gpu, install_stand_in, restored_modules


@dataclass(frozen=True)
class GpuMachine:
    """The stand-ins for the GPU and for TensorRT."""

    driver: FakeCuda
    trt: Any


@contextmanager
def gpu_machine(version: str = "10.3.0", **gpu: Any) -> Iterator[GpuMachine]:
    """Install the stand-ins while the block runs. gpu: arguments of `FakeCuda`.

    The default GPU is an Orin, or an RTX 4090 for TensorRT-RTX ("rtx-1.7.1").

    Raises:
        AssertionError: at the block's end, if a GPU would not have taken all calls, or if something
            is left on it.
    """
    if version.startswith("rtx-"):
        gpu = {"name": "NVIDIA GeForce RTX 4090", "capability": (8, 9), **gpu}
    with restored_modules(), pytest.MonkeyPatch.context() as patch, TemporaryDirectory() as folder:
        card = {"name": "Orin", "capability": (8, 7), **gpu}
        driver = install_gpu(**card)
        driver.use(load_host_kernels().library)
        trt = install_stand_in(version)
        trt.scenario.card = card["name"]
        trt.scenario.capability = "sm{}{}".format(*card["capability"])
        trt.enqueue = driver.enqueue  # type: ignore[attr-defined]
        patch.setenv("XDG_CACHE_HOME", folder)  # for the timing cache
        # The host has its own build of the kernels, and the test machine may lack nvcc.
        for user in ("backends.tensorrt", "sources.nvdec"):
            patch.setattr(
                f"edgeunet.runtime.{user}.load_kernels",
                lambda device, folder, trust=False: device.load_module(CUBIN),
            )
        yield GpuMachine(driver, trt)


def frames(count: int, size: tuple[int, int], seed: int = 0) -> list[Frame]:
    """Blurred noise, so that neighbours have much in common, as in a photograph."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 255, (count, -(-size[0] // 8), -(-size[1] // 8), 3), np.uint8)
    fine = coarse.repeat(8, axis=1).repeat(8, axis=2)
    return list(fine[:, : size[0], : size[1]])
