"""Where edgeunet keeps what it can make again."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgeunet.errors import UsageError
from edgeunet.user_folders import cache_folder


@pytest.mark.parametrize(
    ("platform", "place"),
    [("linux", ".cache"), ("darwin", "Library/Caches"), ("win32", "AppData/Local")],
)
def test_cache_folder_is_the_usual_one(
    platform: str, place: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    monkeypatch.delenv("LOCALAPPDATA", raising=False)
    monkeypatch.setattr("sys.platform", platform)
    assert cache_folder() == tmp_path / place / "edgeunet"
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "mine"))
    assert cache_folder() == tmp_path / "mine" / "edgeunet"


def test_cache_folder_needs_a_home(monkeypatch: pytest.MonkeyPatch) -> None:
    """Which a container that runs as a number lacks."""

    def home() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setattr(Path, "home", home)
    with pytest.raises(UsageError, match="Set XDG_CACHE_HOME"):
        cache_folder()
