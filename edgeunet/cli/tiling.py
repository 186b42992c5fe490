"""Options of tiling: `--tile`, `--overlap`, `--blend`."""

from __future__ import annotations

from typing import Any, get_args

import click

from ..runtime.tiling import Blend, Tiling
from ..runtime.tiling.plan import MAX_OVERLAP

tile_option = click.option(
    "--tile",
    is_flag=True,
    help="Cut frames into tiles of the net's input size, --batch a call, instead of resizing them.",
)
overlap_option = click.option(
    "--overlap",
    type=click.FloatRange(0, MAX_OVERLAP),
    help=f"Share of a tile's side that neighbours have in common.  [{Tiling.overlap}]",
)
blend_option = click.option(
    "--blend",
    type=click.Choice(get_args(Blend)),
    help=f"Add overlapping tiles up, or take each pixel from one.  [{Tiling.blend}]",
)


def tiling_of(tile: bool, overlap: float | None, blend: Blend | None, batch: int) -> Tiling | None:
    """What the options ask for, None without `--tile`.

    Raises:
        click.UsageError: `--overlap` or `--blend` without it.
    """
    given: dict[str, Any] = {"overlap": overlap, "blend": blend}
    given = {name: value for name, value in given.items() if value is not None}
    if tile:
        return Tiling(batch=batch, **given)
    if given:
        raise click.UsageError(f"--{next(iter(given))} needs --tile.")
    return None
