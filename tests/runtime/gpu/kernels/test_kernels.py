"""The overlay in CUDA, compiled for the host, against the CPU's; and the host build itself."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from edgeunet.bundle.manifest import InputSpec
from edgeunet.runtime.sinks import overlay
from support.device_arrays import Placed, place
from support.host_kernels import make_kernels, preprocessed


@given(
    size=st.tuples(st.integers(1, 40), st.integers(1, 40)),
    count=st.integers(1, 3),
    colours=st.integers(1, 256),
    opacity=st.sampled_from([0.5, 0.5, 0.0, 0.25, 0.3, 1.0]),
    seed=st.integers(0, 2**32 - 1),
    shifts=st.tuples(st.integers(0, 3), st.integers(0, 3)),
    in_place=st.booleans(),
)
def test_overlay_is_that_of_the_sink(
    size: tuple[int, int],
    count: int,
    colours: int,
    opacity: float,
    seed: int,
    shifts: tuple[int, int],
    in_place: bool,
) -> None:
    rng = np.random.default_rng(seed)
    frames = rng.integers(0, 256, (count, *size, 3), np.uint8)
    masks = rng.integers(0, 256, (count, *size), np.uint8)  # ids beyond the palette too
    palette = tuple(
        (int(r), int(g), int(b))
        for r, g, b in rng.integers(0, 256, (colours, 3)) * rng.integers(0, 2, (colours, 1))
    )
    source, ids = place(frames, np.uint8, shift=shifts[0]), place(masks, np.uint8)
    out = source if in_place else Placed(frames.shape, np.uint8, shift=shifts[1])
    make_kernels(InputSpec(8, 8), palette=palette).overlay(
        source.address, ids.address, out=out.address, count=count, size=size, opacity=opacity,
        stream=None,
    )  # fmt: skip
    wanted = np.stack(
        [overlay(f, m, palette, opacity=opacity) for f, m in zip(frames, masks, strict=True)]
    )
    # Halves are exact in any arithmetic; other products round with or without FMA.
    most = 0 if opacity in (0.0, 0.25, 0.5, 1.0) else 1
    assert np.abs(out.written().astype(int) - wanted).max() <= most


def test_halves_of_the_host_build_are_those_of_numpy() -> None:
    halves = np.arange(2**16, dtype=np.uint16).view(np.float16)
    halves = np.sort(halves[np.isfinite(halves)]).astype(np.float32)
    between = (halves[1:] + halves[:-1]) / 2  # ties, and the subnormal numbers' too
    values = np.concatenate([halves, between, np.nextafter(between, 0), [1e-9, -1e-9]])
    black = np.zeros((1, 1, 1, 3), np.uint8)
    for value in values[:: len(values) // 300]:
        spec = InputSpec(1, 1, channels=("gray",), mean=(-float(value),), std=(1.0,))
        image = preprocessed(spec, black, np.float16)
        assert image.item() == np.float32(value).astype(np.float16)
