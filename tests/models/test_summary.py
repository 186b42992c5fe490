"""The cost of a net, counted."""

from __future__ import annotations

import pytest

from edgeunet.models import create_model
from edgeunet.models.summary import count, variant_cost


def test_cost_grows_with_the_area() -> None:
    net = create_model("unet", num_classes=2, width=4)
    small, large = count(net, height=32, width=32), count(net, height=64, width=64)
    assert small.parameters == large.parameters == sum(p.numel() for p in net.parameters())
    assert large.gflops == pytest.approx(4 * small.gflops)
    assert next(net.parameters()).device.type == "cpu", "counting leaves the net where it is"


def test_a_multiply_add_is_two_operations() -> None:
    net = create_model("unet", num_classes=2, width=4)
    wider = create_model("unet", num_classes=3, width=4)
    cost, more = (count(each, height=32, width=48) for each in (net, wider))
    assert 1e9 * (more.gflops - cost.gflops) == pytest.approx(2 * 4 * 32 * 48)  # of the head


def test_sizes_that_a_net_cannot_take_are_an_error() -> None:
    with pytest.raises(RuntimeError):
        count(create_model("unet", num_classes=2, width=4), height=33, width=32)


def test_cost_of_a_variant_tells_that_of_any_size() -> None:
    cost = variant_cost("eff_unet")
    assert cost.step == 32
    assert cost.fixed > 0, "its gates see one vector an image"
    assert cost.parameters == 5_986_846
