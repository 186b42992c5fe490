"""`edgeunet doctor`."""

from __future__ import annotations

from dataclasses import asdict

import click

from ..doctor import Diagnosis, Need, diagnose
from ..errors import EdgeUNetError, MissingDependencyError
from ..extras import WHERE, how_to_install
from .common import Command, echo_json, json_option

_WIDTH = 31  # columns of a name


@click.command("doctor", cls=Command)
@json_option
def command(as_json: bool) -> None:
    """Show what this machine can run and what is missing."""
    found = diagnose()
    gstreamer, needs = _runtime()
    openvino, problem = _openvino(found)
    if as_json:
        gpu = [asdict(need) for need in needs]
        listed = {"devices": openvino, "problem": problem}
        npus = {"rockchip": _rockchip(), "qualcomm": _qualcomm()}
        beside = {"gpu": gpu, "openvino": listed, **npus}
        echo_json({**asdict(found), "gstreamer": gstreamer, **beside})
        return
    _echo_parts(found, gstreamer)
    for warning in found.warnings:
        click.echo(f"note: {warning}")
    _echo_gpu(needs)
    for name, what in openvino.items():
        click.echo(f"on OpenVINO's {name}: {what}")
    if problem is not None:
        click.echo(f"on OpenVINO: {problem}")
    if npu := _rockchip():
        driver = npu["driver"] or "unknown"
        click.echo(f"on Rockchip's NPU: {npu['soc']}, driver {driver}; --backend rknn says more")
    if npu := _qualcomm():
        state = npu["problem"] or f"reached by {npu['node']}; --provider qnn says more"
        click.echo(f"on Qualcomm's Hexagon: {npu['soc']}, {state}")


def _echo_parts(found: Diagnosis, gstreamer: bool | None) -> None:
    for name in ("processor", "cores", "system", "python"):
        click.echo(f"{name:<{_WIDTH}}{found.environment[name]}")
        if name == "processor" and found.instructions:
            held = [
                f"{kind} by {' and '.join(names)}" if names else f"no {kind}"
                for kind, names in found.instructions.items()
            ]
            click.echo(f"{'  instructions':<{_WIDTH}}{', '.join(held)}")
    width = 2 + max(len(part.version or "missing") for part in found.parts)
    for part in found.parts:
        state = part.version or "missing"
        advice = "" if part.version else f"; {how_to_install(part.name, part.extra)}"
        click.echo(f"{part.name:<{_WIDTH}}{state:<{width}}{part.purpose}{advice}")
        if part.name == "opencv-python-headless" and gstreamer is not None:
            state = "yes" if gstreamer else "no"
            click.echo(
                f"{'  with GStreamer':<{_WIDTH}}{state:<{width}}"
                "run, serve: csi:// and gst: sources only"
            )
    if WHERE and not all(part.version for part in found.parts):
        click.echo(f"What is missing is installed {WHERE}.")


def _echo_gpu(needs: tuple[Need, ...]) -> None:
    missing = [need for need in needs if need.problem is not None]
    runs = all(need.optional for need in missing)
    verdict = "TensorRT runs" if runs else "TensorRT does not run. Missing:"
    click.echo(f"on a GPU: {verdict}")
    for need in needs if runs else missing:
        click.echo(f"  {need.name:<{_WIDTH - 2}}{need.found or need.problem}")


def _runtime() -> tuple[bool | None, tuple[Need, ...]]:
    """Whether OpenCV has GStreamer (None without OpenCV), and what a GPU needs."""
    try:
        from ..runtime.gpu.needs import gpu_needs
        from ..runtime.sources.gstreamer import has_gstreamer
    except ImportError as error:  # the runtime needs OpenCV
        return None, (Need("runtime", None, _no_runtime(error)),)
    return has_gstreamer(), gpu_needs()


def _openvino(found: Diagnosis) -> tuple[dict[str, str], str | None]:
    """What OpenVINO computes in, by device; and why it cannot be used, if it is installed."""
    if not any(part.name == "openvino" and part.version for part in found.parts):
        return {}, None
    try:
        from ..runtime.backends.openvino_library import devices

        return {
            each.name: f"{each.title}, {' '.join(p.upper() for p in each.precisions)}"
            for each in devices()
        }, None
    except (EdgeUNetError, ImportError) as error:  # the runtime needs OpenCV
        return {}, str(error)


def _rockchip() -> dict[str, str | None] | None:
    """SoC and driver of a board with an NPU of Rockchip's; None on other machines."""
    try:
        from ..runtime.backends.rknn import find_npu
    except ImportError:  # the runtime needs OpenCV
        return None
    npu = find_npu()
    return None if npu.soc is None else asdict(npu)


def _qualcomm() -> dict[str, str | None] | None:
    """SoC and driver of a board with a Hexagon, and what is wrong; None on other machines."""
    try:
        from ..runtime.backends.hexagon import find_hexagon
    except ImportError:  # the runtime needs OpenCV
        return None
    found = find_hexagon()
    if found.soc is None:
        return None
    node = None if found.node is None else str(found.node)
    return {"soc": found.soc, "state": found.state, "node": node, "problem": found.problem}


def _no_runtime(error: ImportError) -> str:
    if isinstance(error, ModuleNotFoundError):
        return str(MissingDependencyError(str(error.name), "cpu"))
    return (
        f"OpenCV is installed, but cannot be loaded: {error}. No bundle runs without it. Install "
        "the library that the message names. An OpenCV compiled with numpy 1, such as JetPack 6's, "
        "needs pip install 'numpy<2'."
    )
