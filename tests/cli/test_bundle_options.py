"""Options of the commands that load a bundle."""

from __future__ import annotations

import click
import pytest

from edgeunet.cli.bundle_options import StreamOptions
from edgeunet.runtime.options import LoadOptions, Tiling


def test_tiles_need_the_switch() -> None:
    assert StreamOptions(batch=4).arguments(LoadOptions())["options"].tiling is None
    arguments = StreamOptions(batch=4, tile=True).arguments(LoadOptions())
    assert arguments["batch"] == 1
    assert arguments["options"].tiling == Tiling(batch=4)
    chosen = StreamOptions(tile=True, overlap=0.5, blend="valid").arguments(LoadOptions())
    assert chosen["options"].tiling == Tiling(overlap=0.5, blend="valid")
    for name, value in (("overlap", 0.5), ("blend", "valid")):
        with pytest.raises(click.UsageError, match=f"--{name} needs --tile"):
            StreamOptions(**{name: value})  # type: ignore[arg-type]
