"""Launches of the kernels."""

from __future__ import annotations

import numpy as np
import pytest

from support.host_kernels import HostKernels, load_host_kernels


def test_launch_with_other_arguments_than_the_kernels_is_refused() -> None:
    host: HostKernels = load_host_kernels()
    with pytest.raises(ValueError, match="number or sizes of the arguments"):
        host.launch("overlay", (1, 1, 1), (1, 1, 1), [np.uint64(0)] * 7, None)
    with pytest.raises(ValueError, match="no such kernel"):
        host.launch("overlays", (1, 1, 1), (1, 1, 1), [], None)
