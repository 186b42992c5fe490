"""`edgeunet serve`."""

from __future__ import annotations

from pathlib import Path

import click

from ..bundle.manifest import Precision
from ..runtime.backends.tiling import Blend
from ..runtime.options import LoadOptions
from ..runtime.serve import serve
from .common import (
    DIRECTORY,
    blend_option,
    gpu_of,
    net_options,
    overlap_option,
    target_fps_option,
    temporal_option,
    tile_option,
    tiling_of,
)


@click.command("serve")
@click.argument("bundle", type=DIRECTORY)
@click.argument("source")
@click.option("--port", type=click.IntRange(0, 65535), default=8080, show_default=True)
@click.option(
    "--host",
    default="127.0.0.1",
    show_default=True,
    help="Address to listen on. Any but this machine's own asks for a token.",
)
@click.option(
    "--token",
    envvar="EDGEUNET_TOKEN",
    show_envvar=True,
    help="What the page and its programs must bring.  [made where one is needed]",
)
@net_options
@target_fps_option
@click.option("--batch", type=click.IntRange(1), default=1, show_default=True)
@temporal_option
@tile_option
@overlap_option
@blend_option
def command(
    bundle: Path,
    source: str,
    port: int,
    host: str,
    token: str | None,
    backend: str,
    device: int | None,
    dla: int | None,
    precision: Precision | None,
    target_fps: float | None,
    batch: int,
    temporal: float | None,
    tile: bool,
    overlap: float | None,
    blend: Blend | None,
) -> None:
    """Show a camera, or a file in a loop, segmented, on a page; segment images sent to it.

    Ctrl-C and SIGTERM end it.
    """
    serve(
        bundle,
        source,
        host=host,
        port=port,
        token=token,
        backend=backend,
        options=LoadOptions(
            precision=precision,
            tiling=tiling_of(tile, overlap, blend, batch),
            target_fps=target_fps,
            **gpu_of(device, dla),
        ),
        batch=1 if tile else batch,
        temporal=temporal,
        announce=lambda url: click.echo(f"open {url}", err=True),
    )
