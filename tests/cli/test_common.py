"""Parameter types that several commands share."""

from __future__ import annotations

import sys

import pytest

from edgeunet.cli.common import Size, echo_next
from support.commands import fails


@pytest.mark.parametrize("size", ["96", "96x", "ax64", "96,128"])
def test_size_in_another_form_is_refused(size: str) -> None:
    message = fails(2, "models", "--size", size)
    assert repr(size) in message
    assert "HEIGHTxWIDTH" in message


@pytest.mark.parametrize("text", ["64x96", "64X96"])
def test_size_is_height_and_width(text: str) -> None:
    assert Size().convert(text, None, None) == (64, 96)


def test_next_commands_are_for_people_at_a_terminal(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    echo_next("edgeunet run a")
    assert capsys.readouterr() == ("", "")
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    echo_next("edgeunet run a", "edgeunet bench a")
    assert capsys.readouterr() == ("", "next:\n  edgeunet run a\n  edgeunet bench a\n")
