"""U-Nets of milesial's form."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from edgeunet.models import Checkpoint
from support.foreign import image, original, state

pytestmark = pytest.mark.usefixtures("no_gradients")


# Wrappings


@pytest.mark.parametrize("extra", [[0, 255], torch.tensor([0, 255])])
def test_mask_values_of_milesial_do_not_matter(tmp_path: Path, extra: object) -> None:
    path = tmp_path / "net.pth"
    torch.save({**state("milesial"), "mask_values": extra}, path)
    opened = Checkpoint.open(path, "unet", size=(32, 48))
    assert len(opened.card.classes) == 3
    expected = original("milesial").double()(image())
    torch.testing.assert_close(opened.net.double()(image()), expected, atol=1e-5, rtol=1e-5)
