"""`edgeunet build`."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import click

from ..bundle.bundle import Bundle, open_bundle
from ..bundle.golden import REQUIRED
from ..bundle.schema import encode
from ..errors import EngineError
from ..runtime.gpu.cuda import CudaDevice
from ..runtime.gpu.engine import (
    BuiltEngine,
    build_bundle_engine,
    default_toolkit,
    engine_parts,
    list_toolkits,
)
from ..runtime.options import LoadOptions
from .common import (
    Choice,
    Command,
    ListOf,
    echo,
    echo_json,
    echo_step,
    force_option,
    json_option,
    option,
    progress,
)
from .completion import BundlePath
from .options import options_from


def _target(text: str) -> str:
    return text.strip().lower()


@click.command("build", cls=Command)
@click.argument("bundle", type=BundlePath())
@option(
    "--runtime",
    type=Choice(list_toolkits()),
    show_default="tensorrt if it is installed, else rtx",
    help="Kind of TensorRT.",
)
@options_from(LoadOptions, "options", leave_out=("target_fps", "provider", "processor"))
@option(
    "--workspace",
    metavar="MB",
    type=click.IntRange(1),
    show_default="half of the free memory; a quarter, at most 1024, if the GPU shares it",
    help="Most scratch memory of a layer; tensorrt only.",
)
@option(
    "--targets",
    type=ListOf(_target, "SM[,SM…]"),
    show_default="sm86,sm89,sm120",
    help="Compute capabilities of the GPUs to build for; rtx only.",
)
@force_option
@json_option
def command(
    bundle: Path,
    runtime: str | None,
    options: LoadOptions,
    workspace: int | None,
    targets: tuple[str, ...] | None,
    force: bool,
    as_json: bool,
) -> None:
    """Build TensorRT engines into a bundle.

    Engines go to BUNDLE/engines, and to BUNDLE/depths/L/engines if the bundle carries several
    depths. A gated bundle gets two engines, one for each of its two parts. Engines that fit are
    kept.
    """
    if runtime is None:
        runtime = default_toolkit()
        echo_step(f"runtime {runtime}")
    opened = open_bundle(bundle)
    engines: list[BuiltEngine] = []
    for each in (*opened.shallower.values(), opened):
        built = []
        for part in engine_parts(each, runtime=runtime, precision=options.precision):
            with ExitStack() as stack:
                built.append(
                    build_bundle_engine(
                        each,
                        runtime=runtime,
                        part=part,
                        targets=targets,
                        workspace_mb=workspace,
                        force=force,
                        report=echo_step,
                        progress=_late_bar(stack, f"building {part}" if part else "building"),
                        precision=options.precision,
                        device=options.device or 0,
                        dla=options.dla,
                        trust_engines=options.trust_engines,
                    )
                )
        engines += _judged(each, built, runtime, options, workspace)
    for engine in engines:
        _require_agreement(engine)
    if as_json:
        listed = [
            {"engine": str(e.path), "built": e.built, "reason": e.reason, "card": encode(e.card)}
            for e in engines
        ]
        echo_json({"runtime": runtime, "engines": listed})
    else:
        for engine in engines:
            echo(_as_text(engine))


def _judged(
    bundle: Bundle,
    built: list[BuiltEngine],
    runtime: str,
    options: LoadOptions,
    workspace: int | None,
) -> list[BuiltEngine]:
    """Judge the engines of a bundle that have not run yet, if they are for a GPU that is here."""
    of_this_machine = all(each.card.request.gpu is not None for each in built)
    if not of_this_machine or all(each.card.agreement is not None for each in built):
        return built
    from ..runtime.backends.tensorrt_engines import Engines

    device = options.device or 0
    with ExitStack() as stack:
        gpu = stack.enter_context(CudaDevice(device))
        found = stack.enter_context(
            Engines(
                bundle.at(built[0].card.request.precision),
                gpu,
                kind=runtime,
                device=device,
                dla=options.dla,
                workspace_mb=workspace,
                trust_engines=options.trust_engines,
                report=echo_step,
                progress=_late_bar(stack, "building"),
            )
        ).built
    return [
        replace(mine, card=theirs.card, built=mine.built or mine.card.plan_sha256 != plan)
        for mine, theirs in zip(built, found, strict=True)
        for plan in [theirs.card.plan_sha256]
    ]


def _require_agreement(engine: BuiltEngine) -> None:
    found, precision = engine.card.agreement, engine.card.request.precision
    if found is not None and not found >= REQUIRED[precision]:
        raise EngineError(
            f"{engine.path}: {found:.2%} of the golden pixels agree with PyTorch; expected "
            f"{REQUIRED[precision]:.1%}, and `run` refuses less. `edgeunet parity` says where they "
            "differ."
        )


def _late_bar(stack: ExitStack, label: str) -> Callable[[float], None]:
    """Bar that appears with the first progress, below the steps printed before it."""
    bars: list[Callable[[int], None]] = []

    def advance(done: float) -> None:
        if not bars:
            bars.append(stack.enter_context(progress(label, 100)))
        bars[0](round(100 * done))

    return advance


def _as_text(engine: BuiltEngine) -> str:
    if engine.built:
        size = engine.card.plan_bytes / 1e6
        text = f"wrote {engine.path} ({size:.1f} MB)"
        if engine.card.request.gpu is None:
            text += ". It was not run: that needs the GPU it is for."
    else:
        text = f"kept {engine.path}: {engine.reason}"
    text += "".join(f"\n  {remark}" for remark in engine.card.remarks())
    if engine.card.request.dla is not None:
        text += "\n" + _dla_layers(engine, engine.card.request.dla)
    return text


def _dla_layers(engine: BuiltEngine, dla: int) -> str:
    """Which layers the DLA cannot run."""
    if not engine.fallback:
        return f"DLA {dla} can run all layers"
    layers = "".join(f"\n  {name}" for name in engine.fallback)
    return f"DLA {dla} cannot run these layers ({len(engine.fallback)}); the GPU runs them:{layers}"
