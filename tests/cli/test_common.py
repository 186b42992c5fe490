"""Parameter types that several commands share."""

from __future__ import annotations

import pytest

from support.commands import data, fails


@pytest.mark.parametrize("size", ["96", "96x", "ax64", "96,128"])
def test_size_in_another_form_is_refused(size: str) -> None:
    message = fails(2, "models", "--size", size)
    assert repr(size) in message
    assert "HEIGHTxWIDTH" in message


# The dataclasses of the commands


def test_a_size_is_given_as_height_and_width() -> None:
    assert data("models", "--size", "64X96") == data("models", "--size", "64x96")
