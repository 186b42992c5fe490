"""Target `qualcomm`: graphs compiled for Hexagon, Qualcomm's processor for nets, by generation."""

from __future__ import annotations

from collections import Counter
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime

from edgeunet.bundle.manifest import Flavour, flavour_file
from edgeunet.errors import ExportError
from edgeunet.extras import requirement
from edgeunet.files import write_bytes
from edgeunet.parity.pixels import MasksOf, frame_for
from edgeunet.runtime.backends.ort import open_flavour
from edgeunet.runtime.frames import Batch

from ..npu.hexagon import CONVOLUTIONS, PLACEMENT, Placed, compile_graph, find_generations
from .base import Deployment, Target

CHECK = "check.npz"


def write(deployment: Deployment) -> None:
    """Compile the graph for each generation, run all in the emulator, and write a page about them.

    Raises:
        UnknownNameError: there is no such SoC. MissingDependencyError, BackendError, GraphError:
        see `compile_graph`. ExportError: a part of the net would run on the CPU.
    """
    generations = find_generations(deployment.options.soc)
    flavour = deployment.flavour
    graph = deployment.write_pixels("model.onnx", flavour)
    content = graph.read_bytes()
    graph.unlink()
    outside: Counter[str] = Counter()
    for generation in generations:
        deployment.report(f"compiling for Hexagon {generation}")
        compiled = compile_graph(content, generation)
        outside = _outside(compiled, flavour)
        name = file_of(generation)
        write_bytes(deployment.folder / name, compiled)
        deployment.prove(name, _masks_of(deployment.folder / name), flavour)
    _write_check(deployment)
    deployment.write_labels()
    deployment.write_page(
        "qualcomm/README.md",
        files=[file_of(generation) for generation in generations],
        check=CHECK,
        outside=", ".join(f"{count} {kind}" for kind, count in outside.most_common()),
        versions=", ".join(
            f"{name} {version(name)}" for name in ("onnxruntime", PLACEMENT.provider.package)
        ),
    )


def file_of(generation: str) -> str:
    """Name of the graph that was compiled for a generation of Hexagon."""
    return f"model.{generation}.onnx"


def _outside(compiled: bytes, flavour: Flavour) -> Counter[str]:
    """Kinds of the nodes that the CPU computes; ExportError if the net is among them."""
    placed = Placed.of(compiled)
    outside = Counter(node.op_type for node in placed.outside)
    convolutions = sum(outside[kind] for kind in CONVOLUTIONS)
    # A part of a float graph gets its weights from the CPU, and computes with them in float.
    if placed.parts != 1 or convolutions or placed.fed:
        raise ExportError(
            f"Hexagon's compiler makes {placed.parts} parts of the graph {flavour}, and leaves "
            f"{convolutions} convolutions and {outside.total()} nodes in all to the CPU, which "
            f"hands it {len(placed.fed)} weights; expected one part with all convolutions and "
            f"weights. `edgeunet lint {flavour_file(flavour)} --target qnn` says which and why. "
            "Deploy --to onnx for a CPU."
        )
    return outside


def _write_check(deployment: Deployment) -> None:
    """Write golden frames, as the graph takes them, and masks to compare on the device."""
    bundle = deployment.bundle
    spec = bundle.manifest.input
    frames = [frame_for(each, spec, any_size=False) for each in bundle.golden().frames]
    with open_flavour(bundle, deployment.flavour) as backend:
        masks = backend.segment(Batch.of(frames)).masks
    np.savez_compressed(deployment.folder / CHECK, frames=np.stack(frames), masks=masks)


def _masks_of(path: Path) -> MasksOf:
    """A compiled graph on Hexagon, or on its emulator, frame by frame."""
    session = PLACEMENT.open(path.read_bytes(), onnxruntime.SessionOptions())

    def run(frames: npt.NDArray[Any]) -> npt.NDArray[np.uint8]:
        return np.concatenate(
            [session.run(["masks"], {"frames": each[None]})[0] for each in frames]
        )

    return run


def _runner(folder: Path, flavour: Flavour) -> MasksOf:
    """The graph of the newest generation that is there."""
    return _masks_of(max(folder.glob(file_of("v*"))))


TARGET = Target(
    name="qualcomm",
    makes="graphs from frames to masks, compiled for Hexagon, Qualcomm's processor for nets",
    needs="ONNX Runtime with its plug-in for QNN, also to deploy: "
    f"`pip install {requirement('qnn')}`",
    flavours=("int8.qnn",),
    write=write,
    options=("confidence", "soc"),
    runner=_runner,
)
