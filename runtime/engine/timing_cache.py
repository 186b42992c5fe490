"""How long each tactic took on a card, kept from build to build: the second one is much shorter.

It lies in the user's cache directory, not in a bundle: all bundles on the machine share layers, and
`edgeunet export --force` replaces a bundle with all that it holds.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from edgeunet.bundle.engines import EngineRequest, slug

from .cache_file import read_cache, write_cache


def timing_cache_path(request: EngineRequest) -> Path:
    """File of the request's card and TensorRT version, in `$XDG_CACHE_HOME` or `~/.cache`."""
    folder = Path(os.environ.get("XDG_CACHE_HOME", ""))
    base = folder if folder.is_absolute() else Path.home() / ".cache"  # as the XDG standard says
    card = "-".join([slug(request.gpu or "any"), *request.targets])
    return base / "edgeunet" / f"timing-{card}-trt{request.version}.cache"


def attach_timing_cache(config: Any, path: Path, report: Callable[[str], None]) -> None:
    """Give a builder's config what the file holds; one that is damaged is dropped, and said so."""
    cache = config.create_timing_cache(read_cache(path, "timing cache", report))
    if cache is None or not config.set_timing_cache(cache, ignore_mismatch=False):
        report(f"timing cache {path} dropped: TensorRT refuses it")
        config.set_timing_cache(config.create_timing_cache(b""), ignore_mismatch=False)


def keep_timing_cache(config: Any, path: Path, report: Callable[[str], None]) -> None:
    """Write what the config's cache holds after a build; of builds at once, the last one stays."""
    content = bytes(config.get_timing_cache().serialize())
    try:
        write_cache(path, content)
    except OSError as error:  # the engine is built all the same
        report(f"timing cache not kept, the next build takes as long: {error}")
