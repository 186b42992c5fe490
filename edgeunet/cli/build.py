"""`edgeunet build`."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import get_args

import click

from ..manifest import Precision
from ..runtime.engine import build_bundle_engine, list_toolkits
from ..schema import encode
from .common import DIRECTORY, echo_json, force_option, json_option, progress


class TargetList(click.ParamType[list[str]]):
    """`sm86,sm89`."""

    name = "SM[,SM…]"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> list[str]:
        """The targets, in lower case."""
        return [part.strip().lower() for part in str(value).split(",")]


@click.command("build")
@click.argument("bundle", type=DIRECTORY)
@click.option("--runtime", type=click.Choice(list_toolkits()), default="rtx", show_default=True)
@click.option("--precision", type=click.Choice(get_args(Precision)), help="[that of the bundle]")
@click.option(
    "--targets",
    type=TargetList(),
    help="Compute capabilities of the GPUs that the engine is for.  [sm86,sm89,sm120]",
)
@force_option
@json_option
def command(
    bundle: Path,
    runtime: str,
    precision: Precision | None,
    targets: list[str] | None,
    force: bool,
    as_json: bool,
) -> None:
    """Build a TensorRT engine into BUNDLE/engines; one that fits is kept."""
    with ExitStack() as stack:
        bars: list[Callable[[int], None]] = []

        def advance(done: float) -> None:
            if not bars:  # only now, so that the steps stand above it
                bars.append(stack.enter_context(progress("building", 100)))
            bars[0](round(100 * done))

        engine = build_bundle_engine(
            bundle,
            runtime=runtime,
            precision=precision,
            targets=targets,
            force=force,
            report=lambda step: click.echo(f"  {step}", err=True),
            progress=advance,
        )
    if as_json:
        echo_json(
            {
                "engine": str(engine.path),
                "built": engine.built,
                "reason": engine.reason,
                "card": encode(engine.card),
            }
        )
    elif engine.built:
        size = engine.card.plan_bytes / 1e6
        click.echo(f"wrote {engine.path} ({size:.1f} MB). It was not run: that needs its GPU.")
    else:
        click.echo(f"kept {engine.path}: {engine.reason}")
