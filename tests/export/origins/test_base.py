"""What an origin does unless it says otherwise."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np

from edgeunet.bundle.card import Card
from edgeunet.bundle.manifest import InputSpec
from edgeunet.exporting.origins.base import Origin
from edgeunet.parity.reference import Images
from edgeunet.runtime.frames import NetOutputs

CARD = Card("means", {}, ("dark", "light"), ((0, 0, 0), (9, 9, 9)), InputSpec(8, 8), "unknown")


class Means(Origin):
    """Light is where the mean of the channels is above the training data's."""

    def infer(self, images: Images) -> NetOutputs:
        light = images.mean(1, keepdims=True)
        return NetOutputs(np.concatenate([-light, light], 1), None)

    def write_graph(self, path: Path) -> None:
        raise NotImplementedError


def test_masks_have_the_size_of_the_frame() -> None:
    frame = np.zeros((20, 30, 3), np.uint8)
    frame[:, 15:] = 255
    outputs, mask = Means(CARD, "NumPy").segment(frame)
    assert outputs.logits.shape == (1, 2, 8, 8)
    assert mask.shape == (20, 30)
    assert not mask[:, :13].any()
    assert mask[:, 17:].all()


def test_nothing_is_kept_or_known_beside_the_graph(tmp_path: Path) -> None:
    origin = Means(CARD, "NumPy", weights="best")
    origin.save(tmp_path)
    assert list(tmp_path.iterdir()) == []
    assert (origin.kept, origin.weights, origin.notes) == ("graph", "best", [])
    assert math.isnan(origin.distance([], CARD.input))
