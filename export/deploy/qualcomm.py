"""Target `qualcomm`: graphs compiled for Hexagon, Qualcomm's processor for nets, by generation."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime

from edgeunet.bundle.manifest import Flavour
from edgeunet.errors import ExportError, UnknownNameError
from edgeunet.files import write_bytes
from edgeunet.parity.pixels import MasksOf, frame_for
from edgeunet.runtime.backends.ort import open_flavour
from edgeunet.runtime.backends.placement import Placement
from edgeunet.runtime.frames import Batch

from .base import Deployment, Target

CHECK = "check.npz"
_COMPILED = "EPContext"
_PLACEMENT = Placement("qnn", "int8", emulated=True)
PACKAGE = _PLACEMENT.provider.package


@dataclass(frozen=True)
class Soc:
    """A system on a chip. generation: of its Hexagon. model: Qualcomm's number of the SoC."""

    generation: str
    model: int | None = None

    @property
    def settings(self) -> dict[str, str]:
        """Of the compiler."""
        model = {} if self.model is None else {"soc_model": str(self.model)}
        return {
            "htp_arch": self.generation.removeprefix("v"),
            "htp_graph_finalization_optimization_mode": "3",  # the most thorough
            **model,
        }


GENERATIONS = ("v68", "v69", "v73", "v75", "v79", "v81")
"""Of Hexagon with its tensor unit: what is compiled for if no SoC is named."""

SOCS: Mapping[str, Soc] = MappingProxyType(
    {
        **{each: Soc(each) for each in GENERATIONS},
        "QCS6490": Soc("v68"),
        "QCS8300": Soc("v75", 82),
        "QCS9100": Soc("v73", 77),
        "SA8255": Soc("v73", 52),
        "SA8295": Soc("v68", 39),
        "SM8350": Soc("v68", 30),
        "SM8450": Soc("v69", 36),
        "SM8475": Soc("v69", 42),
        "SM8550": Soc("v73", 43),
        "SM8650": Soc("v75", 57),
        "SM8750": Soc("v79", 69),
        "SM8850": Soc("v81", 87),
    }
)
"""By name; the numbers are in ExecuTorch's qc_schema.py, which Qualcomm wrote. The compiler takes
any number, and makes a graph for something else of a wrong one."""


def write(deployment: Deployment) -> None:
    """Compile the graph for each generation, run all in the emulator, and write a page about them.

    Raises:
        UnknownNameError: there is no such SoC. BackendError: see `Placement.compiled`.
        ExportError: a part of the net would run on the CPU.
    """
    socs = _wanted(deployment.options.soc)
    flavour = deployment.flavour
    graph = deployment.write_pixels("model.onnx", flavour)
    content = graph.read_bytes()
    graph.unlink()
    outside: Counter[str] = Counter()
    for soc in socs:
        deployment.report(f"compiling for Hexagon {soc.generation}")
        compiled = _PLACEMENT.compiled(content, soc.settings)
        outside = _outside(compiled, flavour)
        name = file_of(soc.generation)
        write_bytes(deployment.folder / name, compiled)
        deployment.prove(name, _masks_of(deployment.folder / name), flavour)
    _write_check(deployment)
    deployment.write_labels()
    deployment.write_page(
        "qualcomm/README.md",
        files=[file_of(soc.generation) for soc in socs],
        check=CHECK,
        outside=", ".join(f"{count} {kind}" for kind, count in outside.most_common()),
        versions=", ".join(f"{name} {version(name)}" for name in ("onnxruntime", PACKAGE)),
    )


def file_of(generation: str) -> str:
    """Name of the graph that was compiled for a generation of Hexagon."""
    return f"model.{generation}.onnx"


def _wanted(name: str | None) -> tuple[Soc, ...]:
    """What to compile for; UnknownNameError if there is no such SoC."""
    if name is None:
        return tuple(SOCS[each] for each in GENERATIONS)
    known = {each.lower(): soc for each, soc in SOCS.items()}
    if name.lower() not in known:
        raise UnknownNameError("SoC", name, SOCS)
    return (known[name.lower()],)


def _outside(compiled: bytes, flavour: Flavour) -> Counter[str]:
    """Kinds of the nodes that the CPU computes; ExportError if the net is among them."""
    nodes = onnx.load_from_string(compiled).graph.node
    parts = [node for node in nodes if node.op_type == _COMPILED]
    outside = Counter(node.op_type for node in nodes if node.op_type != _COMPILED)
    convolutions = outside["Conv"] + outside["ConvTranspose"]
    # A part of a float graph gets its weights from the CPU, and computes with them in float.
    several = [node.name for node in parts if len(node.input) > 1]
    if len(parts) != 1 or convolutions or several:
        raise ExportError(
            f"Hexagon's compiler makes {len(parts)} parts of the graph {flavour}, and leaves "
            f"{convolutions} convolutions and {sum(outside.values())} nodes in all to the CPU; "
            "expected one part with all convolutions, and the image as its only input. Deploy "
            "--to onnx for a CPU, or report this net."
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
    session = _PLACEMENT.open(path.read_bytes(), onnxruntime.SessionOptions())

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
    needs="ONNX Runtime with its plug-in for QNN, also to deploy: `pip install 'edgeunet[qnn]'`",
    flavours=("int8.qnn",),
    write=write,
    options=("confidence", "soc"),
    runner=_runner,
)
