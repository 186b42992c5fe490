"""Signatures of code in bundles, and the key that makes them."""

from __future__ import annotations

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeunet.bundle import signing
from edgeunet.bundle.signing import SIGNATURE_BYTES, ensure_key, is_signed, key_path, sign
from edgeunet.errors import EngineError

names = st.text(max_size=5)
contents = st.binary(max_size=20)


@pytest.fixture
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine without a key."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    return tmp_path / "state"


@given(name=names, content=contents, other_name=names, other_content=contents)
def test_signature_is_of_name_and_content(
    name: str, content: bytes, other_name: str, other_content: bytes
) -> None:
    signature = sign(name, content)
    assert len(signature) == SIGNATURE_BYTES
    assert is_signed(signature, name, content)
    same = (name, content) == (other_name, other_content)
    assert is_signed(signature, other_name, other_content) == same
    for wrong in (b"", signature[:-1], signature[::-1], signature + b"\0"):
        assert not is_signed(wrong, name, content) or wrong == signature


def test_key_is_made_once_and_for_its_user_alone(state: Path) -> None:
    path = state / "edgeunet" / "engines.key"
    assert key_path() == path
    assert not is_signed(b"", "name", b"") and not path.exists()
    before = os.umask(0)
    try:
        signature = sign("name", b"")
    finally:
        os.umask(before)
    key = path.read_bytes()
    assert len(key) == 32
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700
    assert [each.name for each in path.parent.iterdir()] == ["engines.key"]
    assert sign("name", b"") == signature and path.read_bytes() == key


def test_key_of_another_machine_signs_differently(
    state: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    signature = sign("name", b"content")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "other"))
    assert not is_signed(signature, "name", b"content")
    assert sign("name", b"content") != signature
    assert not is_signed(signature, "name", b"content")


def test_those_who_make_the_key_at_once_share_it(state: Path) -> None:
    code = "from edgeunet.bundle.signing import sign; print(sign('name', b'').hex())"
    processes = [
        subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
        for _ in range(3)
    ]
    with ThreadPoolExecutor(4) as pool:
        ours = {each.hex() for each in pool.map(lambda _: sign("name", b""), range(8))}
    theirs = {process.communicate(timeout=60)[0].strip() for process in processes}
    assert len(ours | theirs) == 1


@pytest.mark.parametrize("fault", ["mode", "link", "short", "long", "folder", "pipe"])
def test_key_that_is_not_safe_is_refused(state: Path, fault: str) -> None:
    signature = sign("name", b"")
    path = key_path()
    if fault == "mode":
        path.chmod(0o640)
    elif fault in ("short", "long"):
        path.write_bytes(b"x" * (31 if fault == "short" else 33))
    else:
        path.rename(path.with_name("moved"))
        if fault == "link":
            path.symlink_to("moved")
        elif fault == "folder":
            path.mkdir()
        else:
            os.mkfifo(path, 0o600)
    for use in (ensure_key, lambda: sign("name", b""), lambda: is_signed(signature, "name", b"")):
        with pytest.raises(EngineError, match="engines"):
            use()


def test_key_that_cannot_be_written_says_what_to_do(state: Path) -> None:
    state.write_text("a file")
    with pytest.raises(EngineError, match=r"cannot be written: .*Set XDG_STATE_HOME .*--trust-eng"):
        ensure_key()


def test_relative_state_folder_is_ignored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", "state")
    monkeypatch.setattr(signing.Path, "home", lambda: tmp_path / "home")
    assert key_path() == tmp_path / "home" / ".local" / "state" / "edgeunet" / "engines.key"
