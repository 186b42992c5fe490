"""What errors say."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeunet.errors import (
    BundleError,
    EdgeUNetError,
    UnknownNameError,
    UsageError,
    printable,
    printable_lines,
)


def test_unknown_name_lists_the_known_and_guesses_a_close_one() -> None:
    known = ["unetpp", "unet"]
    assert (
        str(UnknownNameError("model", "vnet", ["b", "a"])) == "unknown model 'vnet'. Known: a, b."
    )
    message = "unknown model 'unett'. Did you mean 'unet'? Known: unet, unetpp."
    assert str(UnknownNameError("model", "unett", known)) == message
    assert str(UnknownNameError("model", "x", [])) == "unknown model 'x'. Known: none."


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("cell", "cell"),
        ("Zelle, größer – 細胞", "Zelle, größer – 細胞"),
        ("\x1b[2J", "\\x1b[2J"),
        ("a\rb\nc", "a\\rb\\nc"),
        ("\x9b2J\x7f", "\\x9b2J\\x7f"),  # C1 and delete
        ("\u202egpj.exe", "\\u202egpj.exe"),  # turns the direction of the text
        ("stra\udcdfe", "stra\\xdfe"),  # a byte of a file name that is not UTF-8
    ],
)
def test_what_cannot_be_printed_is_escaped(text: str, shown: str) -> None:
    assert printable(text) == shown


@given(text=st.text())
def test_nothing_else_reaches_the_terminal(text: str) -> None:
    assert printable(text).isprintable()
    assert all(line.isprintable() for line in printable_lines(text).split("\n"))
    assert printable(printable(text)) == printable(text)


@pytest.mark.parametrize("kind", [EdgeUNetError, BundleError, UsageError])
def test_errors_are_printable_and_keep_their_lines(kind: type[EdgeUNetError]) -> None:
    error = kind("class \x1b]0;title\x07 of\n  nvcc:\tfailed")
    assert str(error) == "class \\x1b]0;title\\x07 of\n  nvcc: failed"
