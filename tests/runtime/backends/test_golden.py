"""What a backend's masks must agree on before it is used."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgeunet.errors import ParityError
from edgeunet.runtime import open_bundle
from edgeunet.runtime.backends.base import Net, NetBackend
from edgeunet.runtime.backends.golden import golden_agreement
from edgeunet.runtime.frames import Batch, NetOutputs


class Fixed(NetBackend):
    """A backend with the golden masks, or others, and a net of its own."""

    def __init__(self, bundle: Path, masks: Any = None, logits: float = 0.0) -> None:
        opened = open_bundle(bundle)
        size = (1, len(opened.manifest.classes), *opened.manifest.logits_size)
        super().__init__(opened, FixedNet(np.full(size, logits, np.float32)), name="fixed")
        self.fixed = opened.golden().masks if masks is None else masks

    def segment(self, batch: Batch) -> Batch:
        (run,) = batch.runs
        run.masks = self.fixed[[frame.index for frame in batch.frames]]
        return batch


class FixedNet(Net):
    def __init__(self, logits: Any) -> None:
        self.logits = logits

    def infer(self, images: Any) -> NetOutputs:
        assert len(images) == 1
        return NetOutputs(self.logits, None)


def test_golden_check_takes_the_golden_masks(fp32_bundle: Path) -> None:
    backend = Fixed(fp32_bundle)
    assert golden_agreement(backend) == 1


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_golden_check_refuses_a_net_that_gives_no_numbers(fp32_bundle: Path, value: float) -> None:
    """Although its masks agree: the class of NaN is that of most pixels."""
    backend = Fixed(fp32_bundle, logits=value)
    with pytest.raises(ParityError, match="logits of a golden frame are not finite"):
        golden_agreement(backend)


@pytest.mark.parametrize("change", [lambda masks: masks[:, :1, :1], lambda m: m.astype(np.int32)])
def test_golden_check_refuses_masks_of_another_form(fp32_bundle: Path, change: Any) -> None:
    golden = open_bundle(fp32_bundle).golden()
    backend = Fixed(fp32_bundle, change(golden.masks))
    with pytest.raises(ParityError, match=r"expected masks uint8 \(4, 64, 96\) of the golden"):
        golden_agreement(backend)
