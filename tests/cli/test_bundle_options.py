"""Options of the commands that load a bundle."""

from __future__ import annotations

import click
import pytest

from edgeunet.cli.bundle_options import TileOptions
from edgeunet.runtime.backends.tiling import Tiling


def test_tiles_need_the_switch() -> None:
    assert TileOptions().tiling(4) is None
    assert TileOptions(tile=True).tiling(4) == Tiling(batch=4)
    chosen = TileOptions(tile=True, overlap=0.5, blend="valid").tiling(1)
    assert chosen == Tiling(overlap=0.5, blend="valid")
    for name, value in (("overlap", 0.5), ("blend", "valid")):
        with pytest.raises(click.UsageError, match=f"--{name} needs --tile"):
            TileOptions(**{name: value})  # type: ignore[arg-type]
