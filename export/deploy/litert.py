"""Target `litert`: a model of LiteRT (TensorFlow Lite) from frames to masks, proved in LiteRT."""

from __future__ import annotations

from contextlib import redirect_stderr, redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from edgeunet.bundle.manifest import Flavour
from edgeunet.errors import MissingDependencyError
from edgeunet.extras import requirement
from edgeunet.parity.pixels import MasksOf

from .base import Deployment, Target

NAME = "model.tflite"


def write(deployment: Deployment) -> None:
    """Convert the graph from frames to masks, run it, and write a page about it."""
    from .converting import converting, quiet, torch_program

    with quiet():
        try:
            import litert_torch
        except ModuleNotFoundError:
            raise MissingDependencyError("litert_torch") from None
    litert_torch.config.show_progress = False
    flavour = deployment.flavour
    module, frames = torch_program(deployment, flavour, rounded=False)
    path = deployment.folder / NAME
    deployment.report("converting for LiteRT, which takes a minute")
    with converting(f"litert-torch {litert_torch.__version__}", flavour):
        model = litert_torch.convert(
            module,
            sample_kwargs={"frames": frames},
            quant_config=_quantized() if flavour == "int8" else None,
        )
        model.export(str(path))
        if flavour == "fp16":
            _halve_weights(path)
    deployment.prove(NAME, _runner(deployment.folder, flavour), flavour)
    deployment.write_labels()
    deployment.write_page("litert/README.md", name=NAME)


def _quantized() -> Any:
    """Says that pairs of Q and DQ around an operator make it one of integers.

    Their scales are those of the bundle's graph.
    """
    from litert_torch.quantize.pt2e_quantizer import (
        PT2EQuantizer,
        get_symmetric_quantization_config,
    )
    from litert_torch.quantize.quant_config import QuantConfig

    kind = get_symmetric_quantization_config(is_per_channel=True)
    return QuantConfig(pt2e_quantizer=PT2EQuantizer().set_global(kind))


def _halve_weights(path: Path) -> None:
    """Hold weights in FP16. They are those of an FP16 graph: nothing is rounded again."""
    from ai_edge_quantizer import qtyping, quantizer

    weights = qtyping.TensorQuantizationConfig(num_bits=16, dtype=qtyping.TensorDataType.FLOAT)
    halving = quantizer.Quantizer(str(path))
    halving.update_quantization_recipe(
        regex=".*",
        operation_name=qtyping.TFLOperationName.ALL_SUPPORTED,
        op_config=qtyping.OpQuantizationConfig(
            weight_tensor_config=weights, compute_precision=qtyping.ComputePrecision.FLOAT
        ),
        algorithm_key="float_casting",
    )
    with redirect_stdout(StringIO()), redirect_stderr(StringIO()):  # it prints its progress
        halving.quantize().export_model(str(path), overwrite=True)


def _runner(folder: Path, flavour: Flavour) -> MasksOf:
    """The model on the CPU, by XNNPACK, frame after frame."""
    from ai_edge_litert.interpreter import Interpreter

    run = Interpreter(model_path=str(folder / NAME)).get_signature_runner()

    def masks_of(frames: npt.NDArray[Any]) -> npt.NDArray[np.uint8]:
        return np.concatenate([run(frames=frame[None])["masks"] for frame in frames])

    return masks_of


TARGET = Target(
    name="litert",
    makes="a model of LiteRT (TensorFlow Lite) from frames to masks, for phones and small boards",
    needs=f"LiteRT; to deploy `pip install {requirement('litert')}`",
    flavours=("int8", "fp32", "fp16"),
    write=write,
    options=("confidence",),
    runner=_runner,
)
