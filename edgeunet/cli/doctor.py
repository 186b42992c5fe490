"""`edgeunet doctor`."""

from __future__ import annotations

from dataclasses import asdict

import click

from ..doctor import Need, diagnose
from ..errors import MissingDependencyError
from .common import echo_json, json_option


@click.command("doctor")
@json_option
def command(as_json: bool) -> None:
    """Say what this machine can run, and what is missing."""
    found = diagnose()
    needs = _gpu_needs()
    if as_json:
        echo_json({**asdict(found), "gpu": [asdict(need) for need in needs]})
        return
    for name in ("processor", "cores", "system", "python"):
        click.echo(f"{name:<24}{found.environment[name]}")
    for part in found.parts:
        state = part.version or f"missing; pip install 'edgeunet[{part.extra}]'"
        click.echo(f"{part.name:<24}{state:<12} {part.purpose}")
    for warning in found.warnings:
        click.echo(f"note: {warning}")
    missing = [need for need in needs if need.problem is not None]
    verdict = "bundles run on ONNX Runtime, for there is missing:" if missing else "TensorRT runs"
    click.echo(f"on a GPU: {verdict}")
    for need in missing or needs:
        click.echo(f"  {need.name:<22}{need.found or need.problem}")


def _gpu_needs() -> tuple[Need, ...]:
    try:
        from ..runtime.needs import gpu_needs
    except ModuleNotFoundError as error:  # the runtime is not to be had without OpenCV
        return (Need("runtime", None, str(MissingDependencyError(str(error.name), "cpu"))),)
    return gpu_needs()
