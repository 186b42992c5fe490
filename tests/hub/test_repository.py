"""What the Hub refuses, and addresses that lead nowhere; the Hub is a server on this machine."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from urllib.parse import quote

import pytest
from huggingface_hub import constants
from hypothesis import given
from hypothesis import strategies as st

from edgeunet import from_hub, push_to_hub
from edgeunet.errors import EdgeUNetError, OutputError, SourceError, UsageError
from edgeunet.hub.repository import parsed
from support.commands import ROOT
from support.hub_server import ADDRESS, NAME, TOKEN, Hub, contents, left_behind, set_endpoint


@pytest.mark.parametrize(
    "address",
    [
        "", "me/net", "hf://net", "hf://me/net/more", "https://huggingface.co/me/net", "hf://../net",
        "hf://me/..", "hf://me/.net", "hf://me/net@", "hf://me/net@../v1", "hf://me/net\n",
        "hf://me/n et", "hf://me\\net", "HF://me/net", "hf://mé/net",
    ],
)  # fmt: skip
def test_other_addresses_are_refused(hub: Hub, bundle: Path, address: str) -> None:
    for call in (
        lambda: from_hub(address),
        lambda: from_hub(address, download=True),
        lambda: push_to_hub(bundle, address),
    ):
        with pytest.raises(UsageError, match="expected an address such as hf://org/name"):
            call()
    assert hub.asked == []


@given(st.text() | st.from_regex(r"hf://[\w./@%\\-]{1,12}/[\w./@%\\-]{1,24}", fullmatch=True))
def test_no_address_leaves_the_cache(address: str) -> None:
    try:
        repository, revision = parsed(address)
    except UsageError:
        return
    place = Path("/hub", repository, "revisions", quote(revision, safe=""))
    assert os.path.normpath(place) == str(place)
    assert place.parts[:2] == ("/", "hub")
    assert len(place.parts) == 6


def test_names_that_the_hub_does_not_take_are_refused(hub: Hub) -> None:
    with pytest.raises(SourceError, match="me/a--b"):
        from_hub("hf://me/a--b", download=True)


@pytest.mark.parametrize(
    ("given", "token", "address", "error", "said"),
    [
        ({}, TOKEN, "hf://me/other", SourceError, "hf://me/other does not exist, or is private"),
        ({}, TOKEN, f"{ADDRESS}@v2", UsageError, "has no such revision. Pass a branch"),
        ({"private": True}, "", ADDRESS, SourceError, "is private. .* log in .* HF_TOKEN"),
        ({"gated": True}, "", ADDRESS, SourceError, "accepted its terms. .* log in"),
    ],
)
def test_what_cannot_be_had_is_said(
    given: dict[str, bool], token: str, address: str, error: type[EdgeUNetError], said: str,
    hub: Hub, bundle: Path, monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    hub.put(NAME, contents(bundle), **given)
    monkeypatch.setenv("HF_TOKEN", token)
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(bundle / "none"))
    with pytest.raises(error, match=said):
        from_hub(address, download=True)
    assert left_behind() == []


def test_no_network_is_said(hub: Hub, bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    set_endpoint(monkeypatch, "http://127.0.0.1:1")
    with pytest.raises(SourceError, match=r"no transfer of hf://me/net: .*Check the network"):
        from_hub(ADDRESS, download=True)
    with pytest.raises(OutputError, match=r"no transfer of hf://me/net: .*Check the network"):
        push_to_hub(bundle, ADDRESS)


def test_broken_hub_is_said(hub: Hub, bundle: Path) -> None:
    hub.broken = "/"
    with pytest.raises(SourceError, match=r"refused hf://me/net: .*500.* Try again later"):
        from_hub(ADDRESS, download=True)
    with pytest.raises(OutputError, match=r"refused hf://me/net: .*500.* Try again later"):
        push_to_hub(bundle, ADDRESS)


def test_hubs_own_offline_mode_holds(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(SourceError, match="HF_HUB_OFFLINE forbids it"):
        from_hub(ADDRESS, download=True)
    assert hub.asked == []


def test_commit_of_another_form_is_refused(hub: Hub, bundle: Path) -> None:
    """It names a folder."""
    found = hub.put(NAME, contents(bundle))
    found.names["main"] = "../../elsewhere"
    found.history["../../elsewhere"] = found.files
    with pytest.raises(SourceError, match=r"expected a commit of 40 hex digits, got '../../else"):
        from_hub(ADDRESS, download=True)
    assert left_behind() == []


def test_refused_file_is_said(hub: Hub, bundle: Path) -> None:
    push_to_hub(bundle, ADDRESS)
    hub.closed = "/me/net/resolve/"
    with pytest.raises(SourceError, match=r"refused hf://me/net: 403 .*needs a token"):
        from_hub(ADDRESS, download=True)
    assert left_behind() == []


def test_upload_that_breaks_off_is_said(hub: Hub, bundle: Path) -> None:
    hub.closed = "/objects/"
    with pytest.raises(OutputError, match=r"no transfer of hf://me/net: .*uploading .*try again"):
        push_to_hub(bundle, ADDRESS)
    assert set(hub.repositories[NAME].files) == {".gitattributes"}


@pytest.mark.parametrize("exists", [False, True])
def test_push_without_a_token_is_refused(
    exists: bool, hub: Hub, bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if exists:
        hub.put(NAME, {".gitattributes": b""})
    monkeypatch.setenv("HF_TOKEN", "hf_wrong")
    with pytest.raises(OutputError, match=r"needs a token that permits it: log in"):
        push_to_hub(bundle, ADDRESS)
    assert set(hub.repositories) == ({NAME} if exists else set())


def test_requests_do_not_say_what_is_installed() -> None:
    code = (
        "from edgeunet.hub.repository import open_api; api = open_api(); "
        "print(api._build_hf_headers(token=False)['user-agent'])"
    )
    kept = {name: value for name, value in os.environ.items() if not name.startswith("HF_")}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=kept, capture_output=True, text=True, check=True
    )
    assert "hf_hub/" in done.stdout
    assert "torch" not in done.stdout
