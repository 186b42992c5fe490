"""What errors say."""

from __future__ import annotations

from edgeunet.errors import UnknownNameError


def test_unknown_name_lists_the_known_and_guesses_a_close_one() -> None:
    known = ["unetpp", "unet"]
    assert (
        str(UnknownNameError("model", "vnet", ["b", "a"])) == "unknown model 'vnet'. Known: a, b."
    )
    message = "unknown model 'unett'. Did you mean 'unet'? Known: unet, unetpp."
    assert str(UnknownNameError("model", "unett", known)) == message
    assert str(UnknownNameError("model", "x", [])) == "unknown model 'x'. Known: none."
