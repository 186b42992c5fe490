"""Cards refuse what no net can be."""

from __future__ import annotations

from typing import Any

import pytest

from edgeunet.bundle.card import CARD_VERSION, Card
from edgeunet.bundle.manifest import InputSpec
from edgeunet.bundle.schema import decode, encode


def card(**changes: Any) -> Card:
    known = {
        "model": "unet",
        "arguments": {"width": 8},
        "classes": ("road", "car"),
        "palette": ((0, 0, 0), (255, 0, 0)),
        "input": InputSpec(32, 48),
        "data": "streets",
    }
    return Card(**{**known, **changes})


def test_card_survives_json() -> None:
    assert decode(Card, encode(card(gate=(0.5, 0.25)))) == card(gate=(0.5, 0.25))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"card_version": CARD_VERSION + 1}, "expected 2. Train again"),
        ({"classes": ("road",)}, "1 classes, but 2 colours"),
        ({"classes": (), "palette": ()}, "0 classes"),
        ({"palette": ((0, 0, 0), (256, 0, 0))}, "from 0 to 255"),
        ({"gate": (0.5,)}, "1 gate thresholds"),
    ],
)
def test_what_no_net_can_be_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        card(**changes)
