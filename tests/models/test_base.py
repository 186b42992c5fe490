"""The base of all nets: heads, features and the gate."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeunet.models import model_class
from edgeunet.models.base import presence_of
from support.variants import SIZE_MULTIPLE, every_variant, image, shared

# Strides of the heads, the one of inference first.
HEAD_STRIDES = {
    "eff_unet": (2,),
    "mobile_unet": (2,),
    "resunet": (1,),
    "unet": (1,),
    "unet3p": (1, 2, 4, 8, 16),
    "unetpp": (1, 1, 1, 1),
}
pytestmark = pytest.mark.usefixtures("no_gradients")  # switched on where needed


# Shapes


@every_variant
@settings(max_examples=6, deadline=None)
@given(rows=st.integers(1, 3), columns=st.integers(1, 3), batch=st.integers(1, 2))
def test_heads_have_the_promised_shapes(name: str, rows: int, columns: int, batch: int) -> None:
    net = shared(name)
    height, width = rows * net.size_multiple, columns * net.size_multiple
    x = torch.zeros(batch, 3, height, width)
    heads, scores = net.run(x)
    logits = net(x)
    assert scores is None
    assert [tuple(head.shape) for head in heads] == [
        (batch, 3, height // stride, width // stride) for stride in HEAD_STRIDES[name]
    ]
    assert logits.shape == heads[0].shape


@every_variant
def test_size_multiple(name: str) -> None:
    assert shared(name).size_multiple == model_class(name).size_multiple == SIZE_MULTIPLE[name]


@every_variant
def test_features_are_finest_first(name: str) -> None:
    net = shared(name)
    features = net.encode(image(name))
    heights = [feature.shape[2] for feature in features]
    assert heights == sorted(heights, reverse=True)
    assert features[-1].shape[2:] == (2, 3)  # the deepest stride is the size multiple


@every_variant
def test_gate_gives_a_probability_per_image_and_class(name: str) -> None:
    net = shared(name, cgm=True)
    x = image(name, batch=2)
    logits, presence = net(x)
    assert presence.shape == (2, 3)
    assert bool(((presence >= 0) & (presence <= 1)).all())
    from_run = net.run(x).presence
    assert from_run is not None
    assert torch.equal(presence, from_run)
    assert logits.shape[:2] == (2, 3)


@every_variant
def test_gate_needs_the_encoder_alone(name: str) -> None:
    net = shared(name, cgm=True)
    x = image(name)
    assert net.cgm is not None
    features = net.encode(x)
    logits, presence = net(x)
    assert torch.equal(presence_of(net.cgm(features[-1])), presence)
    assert torch.equal(net.select(net.decode(features)), logits)
