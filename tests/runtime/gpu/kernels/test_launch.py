"""Launches of the kernels."""

from __future__ import annotations

import numpy as np
import pytest

from edgeunet.bundle.manifest import InputSpec
from edgeunet.bundle.steps import ImageStatistics
from edgeunet.errors import BackendError, FrameError
from support.host_kernels import HostKernels, load_host_kernels, make_kernels


def test_launch_with_other_arguments_than_the_kernels_is_refused() -> None:
    host: HostKernels = load_host_kernels()
    with pytest.raises(ValueError, match="number or sizes of the arguments"):
        host.launch("overlay", (1, 1, 1), (1, 1, 1), [np.uint64(0)] * 7, None)
    with pytest.raises(ValueError, match="no such kernel"):
        host.launch("overlays", (1, 1, 1), (1, 1, 1), [], None)


@pytest.mark.parametrize("size", [(2, 32_001), (32_001, 2)])
def test_frames_too_large_for_the_arithmetic_are_refused(size: tuple[int, int]) -> None:
    kernels = make_kernels(InputSpec(8, 8))
    told = rf"at most 32,000 pixels a side on the GPU, got {size[1]}x{size[0]}\. Run them in tiles"
    with pytest.raises(FrameError, match=told):
        kernels.preprocess(0, size, count=1, images=0, dtype=np.float32, stream=None)
    with pytest.raises(FrameError, match=told):
        kernels.postprocess(
            0, np.float32, logits_size=(8, 8), count=1, masks=0, size=size, stream=None
        )


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        (
            InputSpec(8, 8, statistics=ImageStatistics(pixels="nonzero")),
            r"measures images \(mean and deviation of each channel without zeros\)",
        ),
        (InputSpec(8, 8, filter="torchvision"), "has the filter torchvision"),
    ],
)
def test_input_that_the_kernels_cannot_prepare_is_refused(spec: InputSpec, message: str) -> None:
    with pytest.raises(BackendError, match=rf"no CUDA kernel {message}\. Use --backend onnxr"):
        make_kernels(spec)
