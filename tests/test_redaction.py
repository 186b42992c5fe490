"""Passwords are never printed."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeunet.runtime.sources import redacted

SECRETS = st.text(min_size=4, max_size=20).filter(lambda text: "***" not in text)
PLAIN = st.text("abcdefgh0123456789./-_", max_size=12)


@given(scheme=st.sampled_from(["rtsp", "HTTP", "x1"]), user=st.text(max_size=8), secret=SECRETS)
def test_no_user_or_password_survives_whatever_it_is_made_of(
    scheme: str, user: str, secret: str
) -> None:
    assert redacted(f"{scheme}://{user}:{secret}@camera/1") == f"{scheme}://***@camera/1"


@given(st.sampled_from(["rtsp", "http"]), PLAIN, PLAIN)
def test_addresses_without_secrets_stay(scheme: str, host: str, path: str) -> None:
    address = f"{scheme}://{host}:554/{path}?size=1280x720"
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
        ("clip@home.mp4", "clip@home.mp4"),
        ("frames/*.png", "frames/*.png"),
        (Path("masks/1.png"), "masks/1.png"),
    ],
)
def test_what_is_hidden_and_what_is_not(address: str | Path, wanted: str) -> None:
    assert redacted(address) == wanted
