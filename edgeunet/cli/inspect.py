"""`edgeunet inspect`."""

from __future__ import annotations

from pathlib import Path

import click

from ..bundle.bundle import Bundle, open_bundle
from ..bundle.calibration_table import TABLE_NAME, read_table
from ..bundle.engines import Engine, list_engines
from ..bundle.manifest import InputSpec, Manifest, flavour_file
from ..bundle.schema import encode
from .common import Command, echo, echo_json, json_option
from .completion import BundlePath


@click.command("inspect", cls=Command)
@click.argument("bundle", type=BundlePath())
@json_option
def command(bundle: Path, as_json: bool) -> None:
    """Describe a bundle and check its files and engines."""
    opened = open_bundle(bundle)
    manifest = opened.manifest
    engines = list_engines(opened)
    if as_json:
        listed = [
            {"file": e.path.name, "card": e.card and encode(e.card), "problem": e.problem}
            for e in engines
        ]
        return echo_json({**encode(manifest), "engines": listed})
    spec = manifest.input
    rows = {
        "model": f"{manifest.model} ({manifest.weights})",
        "reference": _reference(manifest),
        "arguments": ", ".join(f"{name}={value}" for name, value in manifest.arguments.items()),
        "precision": manifest.precision,
        "classes": ", ".join(manifest.classes),
        "input": f"{spec.height}x{spec.width} {_channels(spec)}, {spec.resize}, {spec.filter}; "
        f"batch 1 to {manifest.max_batch}",
        "logits": f"{manifest.logits_size[0]}x{manifest.logits_size[1]}",
        **_steps(spec),
        "gate": _gate(manifest),
        "depths": ", ".join(map(str, opened.depths)) or "one",
        "calibration": _calibration(opened),
        "graphs": ", ".join(
            f"{flavour} ({(opened.root / flavour_file(flavour)).stat().st_size / 1e6:.1f} MB)"
            for flavour in manifest.flavours
        ),
        "pixels": _pixels(opened),
        "versions": ", ".join(f"{name} {value}" for name, value in manifest.versions.items()),
    }
    for label, value in rows.items():
        echo(f"{label:<12}{value}")
    echo(f"{'files':<12}{len(manifest.files)}, all hashes match")
    for engine in engines:
        echo(f"{'engine':<12}{engine.path.name}: {_engine(engine)}")
        for remark in [] if engine.card is None else engine.card.remarks():
            echo(f"{'':<14}{remark}")


def _channels(spec: InputSpec) -> str:
    """Channels, depth and levels of the input."""
    black, white = spec.levels
    return f"{', '.join(spec.channels)} ({spec.depth}, {black:g} to {white:g})"


def _reference(manifest: Manifest) -> str:
    """What the bundle can be compared with, and what it was."""
    if manifest.reference == "checkpoint":
        return f"its checkpoint, in {manifest.origin}"
    return f"its FP32 graph, which the export compared with {manifest.origin}"


def _steps(spec: InputSpec) -> dict[str, str]:
    """How values are normalised, and what only some inputs have."""
    steps = {"statistics": spec.statistics, "window": spec.window}
    found = {label: step.describe() for label, step in steps.items() if step is not None}
    if spec.statistics is None:
        mean, std = (" ".join(f"{each:g}" for each in values) for values in (spec.mean, spec.std))
        found["normalised"] = f"mean {mean}, deviation {std}, of values scaled to 0..1"
    return found


def _engine(engine: Engine) -> str:
    """What an engine is for, or why it cannot be used."""
    if engine.problem is not None:
        return f"not usable, {engine.problem}; `edgeunet build` builds it again"
    assert engine.card is not None
    request = engine.card.request
    what = request.precision if request.part is None else f"{request.precision} {request.part}"
    cards = ", ".join(request.targets)
    where = cards if request.gpu is None else f"{request.gpu} ({cards})"
    dla = "" if request.dla is None else f", DLA {request.dla}"
    batch = f"{request.min_batch} to {request.max_batch}" if dla == "" else f"{request.max_batch}"
    return f"{what} for {where}{dla}, batch {batch} ({engine.card.plan_bytes / 1e6:.1f} MB)"


def _gate(manifest: Manifest) -> str:
    """Threshold of each class, or why there is none."""
    if manifest.gate is not None:
        pairs = zip(manifest.classes, manifest.gate, strict=True)
        return ", ".join(f"{name} {threshold:.4g}" for name, threshold in pairs)
    if manifest.arguments.get("cgm"):
        return "not calibrated, so unused; `edgeunet gate` calibrates the checkpoint"
    return "none"


def _pixels(bundle: Bundle) -> str:
    """Flavours that the bundle holds as graphs from frames to masks."""
    flavours = [each for each in bundle.manifest.flavours if bundle.pixels_path(each) is not None]
    return ", ".join(flavours) or "none; `edgeunet export --pixels fixed` writes graphs to masks"


def _calibration(bundle: Bundle) -> str:
    """Method and frames that the INT8 ranges were calibrated with."""
    if TABLE_NAME not in bundle.manifest.files:
        return "none"
    table = read_table(bundle.root / TABLE_NAME)
    return f"{table.method} on {table.frames} frames of {table.source}"
