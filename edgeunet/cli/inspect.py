"""`edgeunet inspect`."""

from __future__ import annotations

from pathlib import Path

import click

from ..calibration import TABLE_NAME, read_table
from ..manifest import Manifest, flavour_file, manifest_json
from ..runtime.bundle import Bundle, open_bundle
from .common import DIRECTORY, echo_json, json_option


@click.command("inspect")
@click.argument("bundle", type=DIRECTORY)
@json_option
def command(bundle: Path, as_json: bool) -> None:
    """Check a bundle's files and say what it is."""
    opened = open_bundle(bundle)
    manifest = opened.manifest
    if as_json:
        echo_json(manifest_json(manifest))
        return
    spec = manifest.input
    rows = {
        "model": f"{manifest.model} ({manifest.weights})",
        "arguments": ", ".join(f"{name}={value}" for name, value in manifest.arguments.items()),
        "precision": manifest.precision,
        "classes": ", ".join(manifest.classes),
        "input": f"{spec.height}x{spec.width} {spec.color}, {spec.resize}; batch 1 to "
        f"{manifest.max_batch}",
        "logits": f"{manifest.logits_size[0]}x{manifest.logits_size[1]}",
        "gate": _gate(manifest),
        "calibration": _calibration(opened),
        "graphs": ", ".join(
            f"{flavour} ({(opened.root / flavour_file(flavour)).stat().st_size / 1e6:.1f} MB)"
            for flavour in manifest.flavours
        ),
        "versions": ", ".join(f"{name} {value}" for name, value in manifest.versions.items()),
    }
    for label, value in rows.items():
        click.echo(f"{label:<12}{value}")
    click.echo(f"{'files':<12}{len(manifest.files)}, all hashes right")


def _gate(manifest: Manifest) -> str:
    """Thresholds by class, or why there are none."""
    if manifest.gate is not None:
        pairs = zip(manifest.classes, manifest.gate, strict=True)
        return ", ".join(f"{name} {threshold:.4g}" for name, threshold in pairs)
    if manifest.arguments.get("cgm"):
        return "not calibrated, so unused; `edgeunet gate` calibrates the checkpoint"
    return "none"


def _calibration(bundle: Bundle) -> str:
    """Method and frames that the INT8 ranges come from."""
    if TABLE_NAME not in bundle.manifest.files:
        return "none"
    table = read_table(bundle.root / TABLE_NAME)
    return f"{table.method} on {table.frames} frames of {table.source}"
