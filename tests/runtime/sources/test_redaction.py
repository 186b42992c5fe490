"""Passwords are never printed."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeunet.runtime.sources import redacted

SECRETS = st.text(min_size=4, max_size=20).filter(lambda text: "***" not in text)
PLAIN = st.text("abcdefgh0123456789./-_", max_size=12)
KEYS = [
    "user-pw",
    "psw",
    "sig",
    "sid",
    "sessionid",
    "credentials",
    "Signature",
    "access_key",
    "pwd",
]
QUOTED: dict[str, Callable[[str], str]] = {
    "bare": lambda text: re.sub(r"([&\s\\\"'])", r"\\\1", text),
    "double": lambda text: '"' + re.sub(r"([\"\\])", r"\\\1", text) + '"',
    "single": lambda text: "'" + re.sub(r"(['\\])", r"\\\1", text) + "'",
}


def written(key: str, encoded: list[bool]) -> str:
    """Key with some letters percent-encoded."""
    return (
        "".join(
            f"%{ord(letter):02x}" if percent else letter
            for letter, percent in zip(key, encoded, strict=False)
        )
        + key[len(encoded) :]
    )


@given(scheme=st.sampled_from(["rtsp", "HTTP", "x1"]), user=st.text(max_size=8), secret=SECRETS)
def test_no_user_or_password_survives_whatever_it_is_made_of(
    scheme: str, user: str, secret: str
) -> None:
    assert redacted(f"{scheme}://{user}:{secret}@camera/1") == f"{scheme}://***@camera/1"


@given(st.sampled_from(["rtsp", "http"]), PLAIN, PLAIN)
def test_addresses_without_secrets_stay(scheme: str, host: str, path: str) -> None:
    address = f"{scheme}://{host}:554/{path}?size=1280x720"
    assert redacted(address) == address


@given(
    key=st.sampled_from(KEYS),
    encoded=st.lists(st.booleans(), max_size=12),
    equals=st.sampled_from(["=", " =", "= ", "  =  "]),
    quotes=st.sampled_from(sorted(QUOTED)),
    secret=SECRETS,
)
def test_no_setting_survives_however_it_is_written(
    key: str, encoded: list[bool], equals: str, quotes: str, secret: str
) -> None:
    start = f"gst:rtspsrc latency=1 {written(key, encoded)}{equals}"
    address = f"{start}{QUOTED[quotes](secret.replace('@', ''))} ! appsink"
    assert redacted(address) == f"{start}*** ! appsink"


@given(secret=st.text(st.characters(exclude_categories=["Z", "C"]), min_size=4))
def test_no_password_survives_without_a_scheme(secret: str) -> None:
    shown = redacted(f"me:{secret}@camera/1")
    assert shown in ("***@camera/1", "me:/***@camera/1", "me://***@camera/1")


@given(st.lists(st.text("abcxyzäß0189 ._-@*?[]()+,", min_size=1), min_size=1, max_size=4))
def test_names_of_files_stay(parts: list[str]) -> None:
    assert redacted("/".join(parts)) == "/".join(parts)
    assert redacted("C:/" + "/".join(parts).replace("@", "")) == "C:/" + "/".join(parts).replace(
        "@", ""
    )


@given(
    st.lists(
        st.sampled_from(["size=1280x720", "rate = 30", "format=mjpeg", "latency=0", "name='a b'"]),
        max_size=4,
    )
)
def test_settings_that_are_no_secrets_stay(settings: list[str]) -> None:
    for address in ("v4l2:///dev/video0?" + "&".join(settings), "gst:a " + " ".join(settings)):
        assert redacted(address) == address


@pytest.mark.parametrize(
    ("address", "wanted"),
    [
        ("rtsp://token@camera/1", "rtsp://***@camera/1"),
        ("rtsp:/user:secret@camera/1", "rtsp:/***@camera/1"),  # a Path dropped a slash
        (
            "http://camera/v.cgi?usr=a&pwd=secret&rate=5",
            "http://camera/v.cgi?usr=***&pwd=***&rate=5",
        ),
        ("http://camera/v?Access_Token=secret", "http://camera/v?Access_Token=***"),
        ("http://camera/v?apikey=secret", "http://camera/v?apikey=***"),
        ("rtsp://camera/user=admin_password=secret_channel=1", "rtsp://camera/user=***"),
        ("http://proxy/?url=rtsp://u:secret@camera", "http://***@camera"),
        (
            "gst:rtspsrc location=rtsp://camera user-id=me user-pw='my secret' ! appsink",
            "gst:rtspsrc location=rtsp://camera user-id=*** user-pw=*** ! appsink",
        ),
        ("rtsp//me:secret@camera/1", "rtsp//***@camera/1"),
        ("me:secret@camera/1", "***@camera/1"),
        (" rtsp://me:secret@camera/1", " rtsp://***@camera/1"),
        ("me:se/cret@camera/1", "***@camera/1"),
        ("me:s@e/cret@camera/1", "***@camera/1"),
        ("gst:rtspsrc user-pw = secret ! appsink", "gst:rtspsrc user-pw = *** ! appsink"),
        (r"gst:rtspsrc user-pw=my\ secret ! appsink", "gst:rtspsrc user-pw=*** ! appsink"),
        (r'gst:rtspsrc user-pw="my\"secret" ! appsink', "gst:rtspsrc user-pw=*** ! appsink"),
        (r"gst:rtspsrc user-pw='my\' secret' ! appsink", "gst:rtspsrc user-pw=*** ! appsink"),
        ('gst:rtspsrc user-pw="my secret', "gst:rtspsrc user-pw=***"),  # nobody closed it
        ("http://camera/v?p%61ssword=secret&rate=5", "http://camera/v?p%61ssword=***&rate=5"),
        ("http://camera/v?p%2561ssword=secret", "http://camera/v?p%2561ssword=***"),
        ("http://camera/v?auth[id]=secret", "http://camera/v?auth[id]=***"),
        ("http://camera/v?design=1&sigma=2&side=3", "http://camera/v?design=1&sigma=2&side=3"),
        ("gst:a location=http://camera?pwd=secret", "gst:a location=http://camera?pwd=***"),
        ("clip@home.mp4", "clip@home.mp4"),
        ("frames/*.png", "frames/*.png"),
        (Path("masks/1.png"), "masks/1.png"),
    ],
)
def test_what_is_hidden_and_what_is_not(address: str | Path, wanted: str) -> None:
    assert redacted(address) == wanted
