"""Files that keep what `auto` chose."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeunet.runtime.backends import kept as kept_module
from edgeunet.runtime.backends.kept import Asked, Kept, Measured, folder, read_kept, write_kept

ASKED = Asked("0" * 64, {"threads": "2"}, {"processor": "made up"}, {"onnxruntime": "1.0"})
RESULTS = (
    Measured("onnxruntime", "fp32", latency_ms=20.0, agreement=1.0),
    Measured("openvino", "int8", latency_ms=10.0, agreement=0.99),
    Measured("openvino", "bf16", problem="wrong"),
)
KEPT = Kept(ASKED, 1, "it is the fastest", RESULTS)


@pytest.fixture(autouse=True, scope="module")
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield


def test_what_was_kept_is_read() -> None:
    assert read_kept(replace(ASKED, bundle="1" * 64)) is None
    path = write_kept(KEPT)
    assert path == ASKED.path
    assert read_kept(ASKED) == KEPT
    assert path.parent == folder()


@given(data=st.data())
def test_damage_is_refused(data: st.DataObject) -> None:
    """Whatever a file holds, it is read to what was written, or not at all."""
    path = write_kept(KEPT)
    assert path is not None
    content = path.read_bytes()
    at = data.draw(st.integers(0, len(content) - 1))
    cut = content[:at] + data.draw(st.binary(max_size=4)) + content[data.draw(st.integers(at)) :]
    path.write_bytes(cut)
    found = read_kept(ASKED)
    if found is not None:
        assert found.asked == ASKED
        assert found.results[found.use].problem is None


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[]", b'{"schema_version": 9}', b"\0" * 99, b'{"use": ' + b"[" * 999]
)
def test_damage_is_told(content: bytes, caplog: pytest.LogCaptureFixture) -> None:
    path = write_kept(KEPT)
    assert path is not None
    path.write_bytes(content)
    assert read_kept(ASKED) is None
    assert f"{path}" in caplog.text
    assert "It is measured again." in caplog.text


def test_what_cannot_be_used_is_not_read(caplog: pytest.LogCaptureFixture) -> None:
    path = write_kept(KEPT)
    assert path is not None
    changes = [('"use": 1', f'"use": {use}') for use in ("2", "3", "-1")]
    for before, now in (*changes, ("openvino", "pytorch")):
        path.write_text(path.read_text().replace(before, now))
        assert read_kept(ASKED) is None
        write_kept(KEPT)
    assert "expected a result without a problem" in caplog.text
    assert "backend is 'pytorch'; expected onnxruntime or openvino" in caplog.text


def test_writers_do_not_disturb_each_other() -> None:
    def work(_: int) -> bool:
        write_kept(KEPT)
        return read_kept(ASKED) == KEPT

    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(work, range(40)))


def test_without_a_home_nothing_is_kept(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """As in a container that runs as a number."""

    def home() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setattr(Path, "home", home)
    assert (folder(), read_kept(ASKED), write_kept(KEPT)) == (None, None, None)
    assert "this user has no home folder. Each start measures again." in caplog.text


def test_old_files_make_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kept_module, "MOST_KEPT", 3)
    paths = []
    for index in range(6):
        path = write_kept(replace(KEPT, asked=replace(ASKED, bundle=f"{index}" * 64)))
        assert path is not None
        os.utime(path, (index + 1e9, index + 1e9))
        paths.append(path)
    assert sorted(folder().iterdir()) == sorted(paths[3:])
