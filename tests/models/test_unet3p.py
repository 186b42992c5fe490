"""UNet 3+."""

from __future__ import annotations

import pytest

from support.variants import image, tiny

pytestmark = pytest.mark.usefixtures("no_gradients")  # switched on where needed


# U-Net 3+


def test_unet3p_without_deep_supervision_has_the_finest_head() -> None:
    net = tiny("unet3p", deep_supervision=False)
    (head,) = net.run(image("unet3p")).heads
    assert head.shape == (1, 3, 32, 48)
    supervised = tiny("unet3p").state_dict()
    assert net.state_dict().keys() < supervised.keys()
