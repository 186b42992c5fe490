"""The reference of our own nets is PyTorch, as `reference_mask` has it."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from edgeunet.bundle.bundle import CHECKPOINT_NAME, open_bundle
from edgeunet.models import Checkpoint
from edgeunet.models.reference import reference_mask
from edgeunet.parity.torch_reference import open_checkpoint


def test_masks_are_those_of_the_checkpoint(fp32_bundle: Path) -> None:
    reference = open_checkpoint(fp32_bundle)
    opened = Checkpoint.open(fp32_bundle / CHECKPOINT_NAME)
    assert (reference.card, reference.title) == (opened.card, "PyTorch")
    golden = open_bundle(fp32_bundle).golden()
    for frame, mask in zip(golden.frames, golden.masks, strict=True):
        found = reference.segment(frame)[1]
        assert np.array_equal(found, mask)
        assert np.array_equal(found, reference_mask(opened.net, frame, opened.card.input))
