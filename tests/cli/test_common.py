"""Parameter types that several commands share."""

from __future__ import annotations

import sys

import pytest

from edgeunet.cli.common import Size, echo, echo_next, paint
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


@pytest.mark.parametrize(
    ("text", "painted"),
    [
        ("int8  98.2 %  OUT OF TOLERANCE", "int8  98.2 %  \x1b[31mOUT OF TOLERANCE\x1b[0m"),
        ("a\n  error rank: 5 axes", "a\n\x1b[31m  error\x1b[0m rank: 5 axes"),
        ("all stages within tolerance", "\x1b[32mall stages within tolerance\x1b[0m"),
        ("note: no GPU", "\x1b[33mnote\x1b[0m: no GPU"),
        ("errors are notes", "errors are notes"),
    ],
)
def test_words_that_say_how_it_ended_have_colours(
    text: str, painted: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    assert paint(text) == painted
    monkeypatch.setenv("NO_COLOR", "1")
    assert paint(text) == text


def test_files_and_pipes_get_no_colours(capsys: pytest.CaptureFixture[str]) -> None:
    echo("note: \x1b[31mred\x1b[0m from a file", err=True)
    assert capsys.readouterr().err == "note: \\x1b[31mred\\x1b[0m from a file\n"
