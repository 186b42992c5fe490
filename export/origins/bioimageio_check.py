"""Test tensors of BioImage.IO's packages: what a net must answer, and a frame for the bundle."""

from __future__ import annotations

import numpy as np

from edgeunet.bundle.manifest import RGB, InputSpec
from edgeunet.data.fit import Frame
from edgeunet.errors import CheckpointError
from edgeunet.parity import plain

from .bioimageio_nets import PackagedNet
from .bioimageio_package import quoted
from .bioimageio_rdf import Tensor, Tolerance
from .bioimageio_steps import Clip, Values, applied

_SAME = 1e-4  # of what is in front of the net, whose values are around 1


def sides_of(values: Values, tensor: Tensor) -> tuple[int, int]:
    """Height and width of a test tensor.

    Raises:
        CheckpointError: other axes than the description has, or several images.
    """
    batch = values.shape[tensor.axes.index("b")] if "b" in tensor.axes[: values.ndim] else 1
    channels = values.shape[tensor.axes.index("c")] if "c" in tensor.axes[: values.ndim] else 1
    if values.ndim != len(tensor.axes) or (batch, channels) != (1, len(tensor.channels)):
        raise CheckpointError(
            f"the test tensor of {quoted(tensor.name)} is {'x'.join(map(str, values.shape))}; "
            f"expected {quoted(tensor.axes)} with a batch of 1 and {len(tensor.channels)} "
            "channels."
        )
    return values.shape[tensor.axes.index("y")], values.shape[tensor.axes.index("x")]


def check_answer(
    net: PackagedNet,
    given: Tensor,
    output: Tensor,
    shown: Values,
    wanted: Values,
    tolerance: Tolerance,
) -> str:
    """Compare the net's answer to the test image with the package's; what was found, for people.

    Raises:
        CheckpointError: they differ.
    """
    sides_of(wanted, output)
    answer = net.answer(applied(given.steps, shown, given.axes).astype(net.dtype))
    found = applied(output.steps, answer, output.axes)
    if found.shape != wanted.shape:
        problem = f"it is {found.shape}, expected {wanted.shape}"
    else:
        difference = np.abs(found.astype(np.float64) - wanted.astype(np.float64))
        allowed = tolerance.absolute + tolerance.relative * np.abs(wanted.astype(np.float64))
        bounds = f"{tolerance.absolute:g} + {tolerance.relative:g} of the value"
        share = float((difference > allowed).mean())
        if share <= tolerance.share:
            return (
                f"its answer to the test image is the package's, up to {difference.max():.2g} "
                f"(allowed: {bounds})"
            )
        problem = (
            f"{share:.2%} of the values differ by more than {bounds}, by up to "
            f"{difference.max():.3g}"
        )
    raise CheckpointError(
        f"the answer of its {net.weights} weights to the test image is not the package's: "
        f"{problem}. The package is damaged, or its net is run in another way than it says: "
        "bioimageio test PACKAGE tells."
    )


def frame_of(shown: Values, given: Tensor, spec: InputSpec) -> Frame | None:
    """The test image as a frame (H, W, C); None if the net's depth does not hold its values."""
    order = [given.axes.index(axis) for axis in "byxc" if axis in given.axes]
    image = shown.transpose(order)
    image = image[0] if "b" in given.axes else image
    image = image if "c" in given.axes else image[..., None]
    frame: Frame = image.astype(spec.depth)
    if not np.array_equal(frame, image.astype(np.float32)):
        return None
    if set(spec.channels) <= set(RGB):
        rgb = np.zeros((*frame.shape[:2], 3), spec.depth)
        rgb[..., [RGB.index(name) for name in spec.channels]] = frame
        frame = rgb
    return np.ascontiguousarray(frame)


def check_input(
    frame: Frame, spec: InputSpec, given: Tensor, shown: Values, clip: Clip | None
) -> None:
    """CheckpointError if our way to the net's input is not the package's."""
    whole = plain.to_whole(frame, spec)
    rows, columns = (
        slice((side - length) // 2, (side - length) // 2 + length)
        for side, length in zip(whole.shape[1:], frame.shape[:2], strict=True)
    )
    found = whole[:, rows, columns]
    if clip is not None:
        found = np.clip(found, clip.low, clip.high)
    wanted = applied(given.steps, shown, given.axes).astype(np.float64)
    order = [given.axes.index(axis) for axis in "bcyx" if axis in given.axes]
    difference = np.abs(found - wanted.transpose(order).reshape(found.shape))
    if (difference > _SAME * (1 + np.abs(found))).any():
        raise CheckpointError(
            f"the test image is prepared otherwise than the package does, by up to "
            f"{difference.max():.3g}. Please report this with the package."
        )
