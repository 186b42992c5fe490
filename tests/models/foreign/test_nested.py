"""Nested U-Nets."""

from __future__ import annotations

import pytest
import torch

from support.foreign import image, original, ours

pytestmark = pytest.mark.usefixtures("no_gradients")


# The same function


@pytest.mark.parametrize("form", ["nested final1-4", "nested seg_outputs"])
def test_every_head_of_the_nested_net_is_that_of_its_column(form: str) -> None:
    net = original(form)
    heads = ours(net.state_dict()).run(image()).heads
    assert len(heads) == 4
    for found, expected in zip(heads, reversed(net.double()(image())), strict=True):
        torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)
