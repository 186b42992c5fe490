"""The golden check: what a backend's masks must agree on before it is used."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from edgeunet.bundle.golden import REQUIRED
from edgeunet.errors import ParityError

from ..frames import Batch, SourceFrame, one_size
from .base import Backend, check_outputs
from .preprocess import Preprocessor


def golden_agreement(backend: Backend) -> float:
    """Share of the golden pixels that agree with the reference's masks.

    Frames are segmented one by one, as calls and `run` do: OpenVINO compiles a net for each size of
    a batch.

    Args:
        backend: segments whole frames the bundle's own way: not in tiles, unless the bundle's input
            has windows.

    Raises:
        ParityError: fewer agree than the precision promises, the masks have another form, or the
            net gives no numbers. BackendError: the backend failed.

    Example:
        >>> from edgeunet.runtime import backends, open_bundle
        >>> from edgeunet.runtime.backends.golden import golden_agreement
        >>> golden_agreement(backends.create_backend("onnxruntime", open_bundle(bundle))) > 0.99
        True
    """
    bundle = backend.bundle
    golden = bundle.golden()
    # Fitted when they were written.
    frames = [SourceFrame(index, "", image) for index, image in enumerate(golden.frames)]
    masks = np.concatenate([backend.segment(Batch([frame])).masks for frame in frames])
    precision = bundle.manifest.precision
    where, advice = f"{bundle.root} on {backend.name}", "`edgeunet parity` says where they differ."
    if (masks.shape, masks.dtype) != (golden.masks.shape, golden.masks.dtype):
        raise ParityError(
            f"{where}: expected masks {golden.masks.dtype} {golden.masks.shape} of the golden "
            f"frames, got {masks.dtype} {masks.shape}. Export the bundle again."
        )
    images = Preprocessor(bundle.manifest.input)(list(golden.frames[:1]))
    outputs = backend.net.infer(images)
    if not check_outputs(outputs, bundle.manifest, frames=len(images)).is_finite:
        raise ParityError(f"{where}: logits of a golden frame are not finite. {advice}")
    agreement = float(np.mean(masks == golden.masks))
    expected = REQUIRED[precision]
    if not agreement >= expected:
        raise ParityError(
            f"{where}: {agreement:.2%} of the golden pixels agree with PyTorch; expected "
            f"{expected:.1%}. {advice}"
        )
    return agreement


def agreement_on_npu(backend: Backend, *, told: str, remedy: str) -> float:
    """The golden check of an NPU, where a simulator was right: the error says what differs.

    Pre- and post-processing are those of every backend, so the net is what differs.

    Args:
        told: the versions that compiled and run the net, as a sentence. remedy: what helped others.

    Raises:
        ParityError, BackendError: see `golden_agreement`.

    Example:
        >>> agreement_on_npu(backend, told="Driver 0.9.8.", remedy="Update it.")  # doctest: +SKIP
        0.9965
    """
    try:
        return golden_agreement(backend)
    except ParityError as error:
        golden = backend.bundle.golden()
        images = Preprocessor(backend.bundle.manifest.input)(list(golden.frames))
        logits = backend.net.infer(images).logits
        share = np.abs(logits - golden.logits).max() / max(float(np.ptp(golden.logits)), 1e-6)
        raise ParityError(
            f"{error} Its logits are off by up to {share:.1%} of their range: the simulator was "
            f"right, and this NPU computes something else. {told} {remedy}"
        ) from None


def batches_of(
    backend: Backend, frames: Sequence[SourceFrame], *, confidence: bool = False
) -> Iterator[Batch]:
    """Fitted frames of one size, in batches that the backend takes."""
    one_size([frame.image for frame in frames])
    limit = backend.bundle.manifest.max_batch
    for at in range(0, len(frames), limit):
        yield Batch(frames[at : at + limit], confidence)
