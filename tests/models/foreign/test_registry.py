"""Recognition of a checkpoint by its keys and shapes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from edgeunet.models.foreign import recognise
from support.foreign import every_form, every_format, state
from support.originals import MilesialUNet, NestedUNet, TutorialUNet

pytestmark = pytest.mark.usefixtures("no_gradients")


# What is known of the originals


@pytest.mark.parametrize(
    ("build", "count"),
    [
        (lambda: TutorialUNet("score_fr", 11, width=64), 30_953_867),
        (lambda: NestedUNet("seg_outputs", 1, width=64), 36_629_828),
        (lambda: NestedUNet("final1-4", 1, width=64), 36_629_828),
        (lambda: NestedUNet("final", 1, width=64), 36_629_633),
        (lambda: MilesialUNet(False, 2, width=64), 31_037_698),
        (lambda: MilesialUNet(True, 2, width=64), 17_263_042),
    ],
)
def test_full_width_is_recognised_and_has_the_known_parameters(
    build: Callable[[], nn.Module], count: int
) -> None:
    with torch.device("meta"):
        net = build()
    assert sum(parameter.numel() for parameter in net.parameters()) == count
    foreign = recognise(net.state_dict())
    assert foreign is not None
    assert (foreign.arguments["width"], foreign.arguments["in_channels"]) == (64, 3)


def test_arguments_are_those_of_the_variant() -> None:
    common = {"num_classes": 3, "in_channels": 3, "width": 4}
    for form, more in {
        "milesial": {},
        "milesial bilinear": {"upsampling": "bilinear", "align_corners": True},
        "nested final": {"align_corners": True, "deep_supervision": False},
        "nested seg_outputs": {"align_corners": True, "deep_supervision": True},
    }.items():
        foreign = recognise(state(form))
        assert foreign is not None
        assert foreign.arguments == {**common, **more}


# What is not of the format


@every_format
@given(data=st.data())
def test_a_missing_key_is_not_recognised(form: str, data: Any) -> None:
    tensors = state(form)
    needed = sorted(name for name in tensors if not name.endswith("num_batches_tracked"))
    del tensors[data.draw(st.sampled_from(needed))]
    assert recognise(tensors) is None


@every_format
@given(data=st.data())
def test_another_shape_is_not_recognised(form: str, data: Any) -> None:
    tensors = state(form)
    # The first convolution tells the image's channels, whatever they are.
    first = next(iter(tensors))
    name = data.draw(
        st.sampled_from(sorted(n for n, t in tensors.items() if t.ndim and n != first))
    )
    axis = data.draw(st.integers(0, tensors[name].ndim - 1))
    tensors[name] = torch.cat([tensors[name]] * 2, dim=axis)
    assert recognise(tensors) is None


@every_form
def test_another_layer_is_not_recognised(form: str) -> None:
    assert recognise({**state(form), "attention.weight": torch.zeros(4, 4, 1, 1)}) is None


@pytest.mark.parametrize(
    "tensors",
    [
        {},
        {"weight": torch.zeros(3)},
        {"conv1.weight": torch.zeros(8, 3, 7, 7), "fc.weight": torch.zeros(5, 8)},
        {name: torch.zeros(()) for name in state("tutorial")},
    ],
)
def test_unrelated_tensors_are_not_recognised(tensors: dict[str, Tensor]) -> None:
    assert recognise(tensors) is None
