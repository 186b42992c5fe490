"""Presences of classes, pixels of their masks, and a checkpoint with a gate."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from hypothesis import strategies as st

from edgeunet.bundle.card import Card
from edgeunet.bundle.manifest import InputSpec
from edgeunet.data.cells import CLASSES, PALETTE
from edgeunet.gate.report import Pixels, Presence
from edgeunet.models import create_model
from edgeunet.models.checkpoints import save_checkpoint

Images = tuple[Presence, Pixels]


@st.composite
def images(draw: st.DrawFn, most: int = 30) -> Images:
    """Presence and pixels of some images and up to 4 classes, with ties and ends of the range."""
    count, classes = draw(st.integers(1, most)), draw(st.integers(1, 4))
    level = st.one_of(
        st.sampled_from([0.0, 1e-45, 0.25, 0.5, 0.75, 1 - 2**-24, 1.0]),
        st.floats(0, 1, width=32),
    )
    cells = count * classes
    presence = draw(st.lists(level, min_size=cells, max_size=cells))
    pixels = draw(st.lists(st.sampled_from([0, 0, 1, 7, 500]), min_size=cells, max_size=cells))
    shape = (count, classes)
    return np.array(presence, np.float32).reshape(shape), np.array(pixels, np.int64).reshape(shape)


def gated_checkpoint(folder: Path) -> Path:
    """Checkpoint of an untrained gated net, in FP16."""
    torch.manual_seed(0)
    net = create_model("unet", num_classes=3, width=4, cgm=True)
    card = Card(
        model="unet",
        arguments={"num_classes": 3, "in_channels": 3, "width": 4, "cgm": True},
        classes=CLASSES,
        palette=PALETTE,
        input=InputSpec(32, 48),
        data="cells",
        metrics={"miou": 50.0},
    )
    save_checkpoint(folder / "gated.safetensors", net, card, half=True)
    return folder / "gated.safetensors"
