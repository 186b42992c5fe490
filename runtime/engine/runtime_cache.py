"""What TensorRT-RTX compiles on a card when an engine first runs, kept from start to start."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from edgeunet.bundle.engines import slug

from .cache_file import read_cache, write_cache

_KIND = "runtime cache"


def runtime_cache_path(plan: Path, card: str) -> Path:
    """File beside a plan, for one of the cards that run it: `PLAN-nvidia-geforce-rtx-4090.cache`.

    A plan for several cards has one for each: TensorRT-RTX refuses that of another card.
    """
    return plan.with_name(f"{plan.stem}-{slug(card)}.cache")


class RuntimeCache:
    """The kernels of an engine's contexts, read from a file that need not be there.

    The device's context must be current, also for `keep`.

    Args:
        config: IRuntimeConfig that the contexts will be made with. report: told why the file
            is not used, or cannot be written.
    """

    def __init__(self, config: Any, path: Path, report: Callable[[str], None]) -> None:
        self._native = config.create_runtime_cache()
        self._path = path
        self._report = report
        self._kept = read_cache(path, _KIND, report)
        if self._kept and not self._native.deserialize(self._kept):
            report(
                f"{_KIND} {path} dropped: TensorRT-RTX refuses it, as it does after a new driver. "
                "The engine's kernels are compiled again."
            )
        if not config.set_runtime_cache(self._native):
            report(f"{_KIND} not used: TensorRT-RTX takes none")

    def keep(self) -> None:
        """Write what was compiled since; of processes at once, the last one's file stays."""
        content = bytes(self._native.serialize())
        if content == self._kept:
            return
        self._kept = content
        try:
            write_cache(self._path, content)
        except OSError as error:  # the engine runs all the same
            self._report(f"{_KIND} not kept, the next start takes as long: {error}")
