"""Target `executorch`: a program of ExecuTorch from frames to masks, proved on its runtime."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from edgeunet.bundle.manifest import Flavour
from edgeunet.errors import MissingDependencyError
from edgeunet.extras import requirement
from edgeunet.parity.pixels import MasksOf

from .base import Deployment, Target

NAME = "model.pte"


def write(deployment: Deployment) -> None:
    """Convert the graph from frames to masks, run it, and write a page about it."""
    from .converting import converting, quiet, torch_program

    with quiet():
        try:
            from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
            from executorch.exir import to_edge_transform_and_lower
            from executorch.version import __version__
            from torch.export import export
        except ModuleNotFoundError:
            raise MissingDependencyError("executorch") from None
    flavour = deployment.flavour
    module, frames = torch_program(deployment, flavour)
    path = deployment.folder / NAME
    deployment.report("converting for ExecuTorch, which takes a minute")
    with converting(f"ExecuTorch {__version__}", flavour):
        program = export(module, (frames,))
        lowered = to_edge_transform_and_lower(program, partitioner=[XnnpackPartitioner()])
        path.write_bytes(lowered.to_executorch().buffer)
    deployment.prove(NAME, _runner(deployment.folder, flavour), flavour)
    deployment.write_labels()
    deployment.write_page("executorch/README.md", name=NAME)


def _runner(folder: Path, flavour: Flavour) -> MasksOf:
    """The program on the CPU, by XNNPACK, frame after frame."""
    import torch
    from executorch.runtime import Runtime

    method = Runtime.get().load_program(folder / NAME).load_method("forward")

    def masks_of(frames: npt.NDArray[Any]) -> npt.NDArray[np.uint8]:
        found = [method.execute([torch.from_numpy(frame[None])])[0].numpy() for frame in frames]
        return np.concatenate(found)

    return masks_of


TARGET = Target(
    name="executorch",
    makes="a program of ExecuTorch from frames to masks, for phones and small boards",
    needs=f"ExecuTorch with XNNPACK; to deploy `pip install {requirement('executorch')}`",
    flavours=("int8", "fp32"),
    write=write,
    options=("confidence",),
    runner=_runner,
)
