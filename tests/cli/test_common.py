"""Parameter types that several commands share."""

from __future__ import annotations

import pytest

from edgeunet.cli.common import Size
from support.commands import fails


@pytest.mark.parametrize("size", ["96", "96x", "ax64", "96,128"])
def test_size_in_another_form_is_refused(size: str) -> None:
    message = fails(2, "models", "--size", size)
    assert repr(size) in message
    assert "HEIGHTxWIDTH" in message


@pytest.mark.parametrize("text", ["64x96", "64X96"])
def test_size_is_height_and_width(text: str) -> None:
    assert Size().convert(text, None, None) == (64, 96)
