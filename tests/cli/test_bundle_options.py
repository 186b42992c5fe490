"""Options of the commands that load a bundle."""

from __future__ import annotations

import click
import pytest

from edgeunet.cli.bundle_options import StreamOptions
from edgeunet.data.fit import Reading
from edgeunet.runtime.options import LoadOptions, Tiling

READING = Reading(levels=(0, 4095))


def test_tiles_need_the_switch() -> None:
    assert StreamOptions(batch=4).arguments(LoadOptions(), READING)["options"].tiling is None
    arguments = StreamOptions(batch=4, tile=True).arguments(LoadOptions(), READING)
    assert arguments["batch"] == 1
    assert arguments["options"].tiling == Tiling(batch=4)
    chosen = StreamOptions(tile=True, overlap=0.5, blend="valid").arguments(LoadOptions(), READING)
    assert chosen["options"].tiling == Tiling(overlap=0.5, blend="valid")
    for name, value in (("overlap", 0.5), ("blend", "valid")):
        with pytest.raises(click.UsageError, match=f"--{name} needs --tile"):
            StreamOptions(**{name: value})  # type: ignore[arg-type]
