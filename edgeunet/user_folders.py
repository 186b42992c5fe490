"""Folders of the user's that edgeunet keeps something in."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from .errors import UsageError


def cache_folder() -> Path:
    """Where edgeunet keeps what it can make again: `edgeunet` in the user's folder for caches.

    That is `$XDG_CACHE_HOME`, or else `~/.cache`, `~/Library/Caches` on macOS, and `%LOCALAPPDATA%`
    on Windows.

    Raises:
        UsageError: it would be in the user's folder, and there is none, as in containers that run
        as a number.

    Example:
        >>> from edgeunet.user_folders import cache_folder
        >>> cache_folder().name
        'edgeunet'
    """
    given = Path(os.environ.get("XDG_CACHE_HOME", ""))
    if given.is_absolute():  # the XDG standard says to ignore relative paths
        return given / "edgeunet"
    try:
        home = Path.home()
    except RuntimeError:  # no $HOME, and the system does not know the user
        raise UsageError(
            "this user has no home folder for what is kept. Set XDG_CACHE_HOME to a folder."
        ) from None
    if sys.platform == "darwin":
        base = home / "Library" / "Caches"
    elif sys.platform == "win32":
        base = Path(os.environ.get("LOCALAPPDATA") or home / "AppData" / "Local")
    else:
        base = home / ".cache"
    return base / "edgeunet"
