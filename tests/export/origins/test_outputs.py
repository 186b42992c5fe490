"""The logits in what a net returns: found, named, or refused with what came."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from edgeunet.errors import UsageError
from edgeunet.exporting.origins.outputs import chosen_output

LOGITS = torch.zeros(1, 3, 4, 5)
OTHER = torch.ones(1, 3, 4, 5)


@pytest.mark.parametrize(
    ("answer", "output"),
    [
        (LOGITS, None),
        ((LOGITS, OTHER), None),
        ([[LOGITS, OTHER], OTHER], None),
        ({"aux": OTHER, "out": LOGITS}, None),
        ({"aux": OTHER, "logits": LOGITS}, None),
        ({"loss": LOGITS.mean(), "mask": LOGITS}, None),
        (SimpleNamespace(loss=None, logits=LOGITS), None),
        ((OTHER, LOGITS), 1),
        ({"out": OTHER, "seg": LOGITS}, "seg"),
        (SimpleNamespace(logits=OTHER, masks=LOGITS), "masks"),
    ],
)
def test_logits_are_found_or_named(answer: Any, output: str | int | None) -> None:
    assert chosen_output(answer, output) is LOGITS


@pytest.mark.parametrize(
    ("answer", "output", "message"),
    [
        (None, None, "the net returns NoneType; expected logits (N, classes, h, w)"),
        ({}, None, "the net returns a dict of nothing"),
        ((), None, "the net returns a tuple of 0"),
        ("mask", None, "the net returns str"),
        (LOGITS.mean((2, 3)), None, "the net returns a tensor (1, 3); expected logits"),
        (LOGITS.argmax(1, True), None, "the net returns int64 values, which are class ids"),
        (
            {"aux": OTHER, "seg": LOGITS},
            None,
            "a dict of 'aux', 'seg'; expected one map, or one named 'out' or 'logits'. Name",
        ),
        ({"out": LOGITS, "aux": OTHER}, "mask", "no output 'mask'; it returns a dict of 'out', "),
        ((LOGITS,), 1, "no output '1'; it returns a tuple of 1"),
        (SimpleNamespace(loss=3), "loss", "no output 'loss'; it returns SimpleNamespace"),
    ],
)
def test_other_answers_are_refused(answer: Any, output: str | int | None, message: str) -> None:
    with pytest.raises(UsageError) as refusal:
        chosen_output(answer, output)
    assert message in str(refusal.value)
