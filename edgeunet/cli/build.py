"""`edgeunet build`."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import get_args

import click

from ..bundle.bundle import open_bundle
from ..bundle.manifest import Precision
from ..bundle.schema import encode
from ..runtime.gpu.engine import (
    BuiltEngine,
    build_bundle_engine,
    default_toolkit,
    engine_parts,
    list_toolkits,
)
from .common import DIRECTORY, echo_json, force_option, gpu_of, gpu_options, json_option, progress


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
@click.option(
    "--runtime",
    type=click.Choice(list_toolkits()),
    help="Kind of TensorRT.  [tensorrt where it is installed, else rtx]",
)
@click.option("--precision", type=click.Choice(get_args(Precision)), help="[that of the bundle]")
@gpu_options
@click.option(
    "--workspace",
    type=click.IntRange(1),
    help="Most scratch memory of a layer, MB; tensorrt only.  [half of the free memory; a quarter, "
    "at most 1024, where the GPU shares it with the system]",
)
@click.option(
    "--targets",
    type=TargetList(),
    help="Compute capabilities of the GPUs that the engine is for; rtx only.  [sm86,sm89,sm120]",
)
@force_option
@json_option
def command(
    bundle: Path,
    runtime: str | None,
    precision: Precision | None,
    device: int | None,
    dla: int | None,
    workspace: int | None,
    targets: list[str] | None,
    force: bool,
    as_json: bool,
) -> None:
    """Build TensorRT engines into BUNDLE/engines; those that fit are kept.

    One engine, or two for a gated bundle in its two parts: those that `edgeunet run` uses. Those of
    the shallower depths that a bundle carries go to BUNDLE/depths/L/engines.
    """
    if runtime is None:
        runtime = default_toolkit()
        click.echo(f"  runtime {runtime}", err=True)
    opened = open_bundle(bundle)
    wanted = [
        (each, part)
        for each in (*opened.shallower.values(), opened)
        for part in engine_parts(each, runtime=runtime, precision=precision)
    ]
    engines = []
    for each, part in wanted:
        with ExitStack() as stack:
            engines.append(
                build_bundle_engine(
                    each,
                    runtime=runtime,
                    precision=precision,
                    part=part,
                    targets=targets,
                    workspace_mb=workspace,
                    force=force,
                    report=lambda step: click.echo(f"  {step}", err=True),
                    progress=_late_bar(stack, f"building {part}" if part else "building"),
                    **gpu_of(device, dla),
                )
            )
    if as_json:
        echo_json({"runtime": runtime, "engines": [_as_json(engine) for engine in engines]})
    else:
        for engine in engines:
            click.echo(_as_text(engine))


def _late_bar(stack: ExitStack, label: str) -> Callable[[float], None]:
    """Bar that stands below the steps told before it: it comes with the first share."""
    bars: list[Callable[[int], None]] = []

    def advance(done: float) -> None:
        if not bars:
            bars.append(stack.enter_context(progress(label, 100)))
        bars[0](round(100 * done))

    return advance


def _as_json(engine: BuiltEngine) -> dict[str, object]:
    return {
        "engine": str(engine.path),
        "built": engine.built,
        "reason": engine.reason,
        "card": encode(engine.card),
    }


def _as_text(engine: BuiltEngine) -> str:
    if engine.built:
        size = engine.card.plan_bytes / 1e6
        text = f"wrote {engine.path} ({size:.1f} MB)"
        if engine.card.request.gpu is None:
            text += ". It was not run: that needs its GPU."
    else:
        text = f"kept {engine.path}: {engine.reason}"
    if engine.card.request.dla is not None:
        text += "\n" + _fallback(engine, engine.card.request.dla)
    return text


def _fallback(engine: BuiltEngine, dla: int) -> str:
    """Layers that the DLA cannot run."""
    if not engine.fallback:
        return f"DLA {dla} can run all layers"
    layers = "".join(f"\n  {name}" for name in engine.fallback)
    return f"DLA {dla} cannot run these layers ({len(engine.fallback)}); the GPU does:{layers}"
