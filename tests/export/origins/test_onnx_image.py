"""The input of graphs: layout, size, and the normalisation in front of the net."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx_ir as ir
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeunet.errors import ExportError, UsageError
from edgeunet.exporting.graphs.passes import Clean
from edgeunet.exporting.origins.onnx_image import (
    Normalisation,
    find_layout,
    input_size,
    take_normalisation,
)
from support.onnx_forms import Builder, run

RNG = np.random.default_rng(9)
KERNEL = RNG.normal(size=(5, 3, 1, 1))


def graph(
    build: Callable[[Builder, str], str], shape: list[int | str], *, conv: bool = True
) -> ir.Model:
    b = Builder()
    x = build(b, "image")
    b.add("Conv", x, b.const(KERNEL)) if conv else b.add("Relu", x)
    model = b.model(("image", 1, shape), ("y", 1, [None, None, None, None]))
    return ir.from_proto(model)


def same(b: Builder, x: str) -> str:
    return x


def first(b: Builder, x: str) -> str:
    return b.add("Transpose", x, perm=[0, 3, 1, 2])


def shifted(b: Builder, x: str) -> str:
    return first(b, b.add("Sub", b.add("Pad", x, b.const(np.array([0, 1, 1, 0] * 2))),
                          b.const(np.ones(3))))  # fmt: skip


@pytest.mark.parametrize(
    ("build", "shape", "conv", "wanted"),
    [
        (same, ["n", 3, 8, 8], True, ("NCHW", 3)),
        (same, ["n", "c", "h", "w"], True, ("NCHW", 3)),
        (first, ["n", 3, 3, 3], True, ("NHWC", 3)),
        (shifted, ["n", "h", "w", 3], True, ("NHWC", 3)),
        (same, ["n", 8, 8, 3], False, ("NHWC", None)),
        (same, ["n", 3, 8, 3], False, ("NCHW", None)),
    ],
)
def test_layout_is_that_of_the_first_convolution(
    build: Callable[[Builder, str], str],
    shape: list[int | str],
    conv: bool,
    wanted: tuple[str, int | None],
) -> None:
    assert find_layout(graph(build, shape, conv=conv).graph.inputs[0]) == wanted


def test_channels_in_the_middle_are_refused() -> None:
    model = graph(lambda b, x: b.add("Transpose", x, perm=[0, 2, 1, 3]), ["n", 8, 3, 8])
    with pytest.raises(ExportError, match="'image' are on axis 2; expected 1"):
        find_layout(model.graph.inputs[0])


SIZES: list[tuple[list[int | str], tuple[int, int] | None, object]] = [
    ([1, 3, 8, 9], None, ((8, 9), True)),
    (["n", 3, 8, 9], (8, 9), ((8, 9), False)),
    (["n", 3, "h", "w"], (16, 32), ((16, 32), False)),
    (["n", 3, 8, "w"], (8, 32), ((8, 32), False)),
    (["n", 3, "h", "w"], None, "leaves the size open. Pass --size HxW"),
    ([1, 3, 8, 9], (16, 18), "1x3x8x9; --size 16x18 does not fit"),
    ([4, 3, 8, 9], None, "batches of 4; expected 1 or a dynamic batch"),
]


@pytest.mark.parametrize(("shape", "size", "wanted"), SIZES)
def test_size(shape: list[int | str], size: tuple[int, int] | None, wanted: object) -> None:
    (image,) = graph(same, shape).graph.inputs
    if isinstance(wanted, str):
        with pytest.raises((UsageError, ExportError), match=wanted):
            input_size(image, "NCHW", size)
    else:
        assert input_size(image, "NCHW", size) == wanted


def taken(
    build: Callable[[Builder, str], str], *, byte: bool = False
) -> tuple[Normalisation | None, list[str]]:
    """What was taken; compared with the graph as it was. And the operators that are left."""
    model = graph(build, ["n", 3, 4, 4])
    raw = RNG.uniform(0, 255, (2, 3, 4, 4)).astype(np.float32)
    wanted = run(ir.to_proto(model), raw)
    found = take_normalisation(model, byte=byte)
    Clean()(model)
    image = raw
    if found is not None:
        gain, shift = (np.reshape(each, (3, 1, 1)) for each in (found.gain, found.shift))
        image = (raw[:, list(found.order)] * gain + shift).astype(np.float32)
        low, high = found.levels or (0, 1)
        mean, std = (np.reshape(each, (3, 1, 1)) for each in (found.mean, found.std))
        again = ((raw[:, list(found.order)] - low) / (high - low) - mean) / std
        np.testing.assert_allclose(again, image, rtol=1e-4, atol=1e-3)
    np.testing.assert_allclose(run(ir.to_proto(model), image), wanted, rtol=1e-3, atol=1e-2)
    return found, [node.op_type for node in model.graph]


def by(op: str, *values: float) -> Callable[[Builder, str], str]:
    return lambda b, x: b.add(op, x, b.const(np.reshape(values, (-1, 1, 1)).astype(float)))


def chain(*steps: Callable[[Builder, str], str]) -> Callable[[Builder, str], str]:
    def build(b: Builder, x: str) -> str:
        for step in steps:
            x = step(b, x)
        return x

    return build


@pytest.mark.parametrize(
    ("build", "white"),
    [
        (chain(by("Sub", 0.485, 0.456, 0.406), by("Div", 0.229, 0.224, 0.225)), 1),
        (chain(by("Mul", 2), by("Add", -1)), 1),
        (chain(by("Div", 255)), 255),
        (chain(by("Sub", 123.7, 116.3, 103.5), by("Mul", 0.017)), 255),
        (chain(by("Sub", 103.9, 116.8, 123.7)), 255),
        (chain(by("Mul", 1 / 127.5), by("Sub", 1)), 255),
        (chain(by("Div", 65535)), 65535),
        (chain(by("Sub", 1.2e6)), None),
    ],
)
def test_raw_value_of_white_is_guessed(
    build: Callable[[Builder, str], str], white: float | None
) -> None:
    found, ops = taken(build)
    assert found is not None and not found.inside
    assert found.levels == (None if white is None else (0, white))
    assert ops == ["Conv"]


@settings(max_examples=25, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(["Add", "Sub", "Mul", "Div", "turn"]),
            st.lists(st.floats(0.25, 4), min_size=3, max_size=3),
        ),
        max_size=5,
    )
)
def test_any_affine_is_taken_out(steps: list[tuple[str, list[float]]]) -> None:
    def turned(b: Builder, x: str) -> str:
        return b.add("Gather", x, b.const(np.array([2, 1, 0])), axis=1)

    build = chain(*(turned if op == "turn" else by(op, *values) for op, values in steps))
    assert taken(build)[1] == ["Conv"]


def test_reversed_slice_is_an_order() -> None:
    def build(b: Builder, x: str) -> str:
        ends = [b.const(np.array([each])) for each in (-1, -(2**62), 1, -1)]
        return b.add("Slice", x, *ends)

    found, ops = taken(build)
    assert found is not None and (found.order, found.levels) == ((2, 1, 0), None)
    assert ops == ["Conv"]


def test_inverted_image_stays_inside() -> None:
    found, ops = taken(lambda b, x: b.add("Sub", b.const(np.float32(255)), x))
    assert found == Normalisation((1.0,) * 3, (0.0,) * 3, (0, 1, 2), (0.0, 255.0), inside=True)
    assert ops == ["Sub", "Conv"]


def test_bytes_without_normalisation_are_fed_raw() -> None:
    found, _ = taken(same, byte=True)
    assert found is not None and found.inside and found.levels == (0, 255)
    assert taken(same)[0] is None


@pytest.mark.parametrize("shape", [(1, 3, 4, 4), (1, 1, 4, 4)])
def test_what_differs_between_pixels_stays(shape: tuple[int, ...]) -> None:
    values = RNG.normal(size=shape)
    found, ops = taken(lambda b, x: b.add("Add", x, b.const(values)))
    assert found is None
    assert ops == ["Add", "Conv"]
