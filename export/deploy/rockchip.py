"""Target `rockchip`: a compiled net for the NPU of a Rockchip SoC, proved in the maker's simulator.

The bundle's Q/DQ graph for Hexagon goes in, with floats for what has 16 bits there: it has a pair
on every tensor, as NPUs want it. So calibration, budget and the layers that stay in float are the
bundle's own. In TensorRT's and OpenVINO's graphs SiLU is float, which the compiler crashes on.

The simulator takes graphs, not compiled files: what it runs is what was compiled, compiled again.
The bundle's golden frames prove the file itself, on the board.
"""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx

from edgeunet.bundle.bundle import Bundle, open_bundle
from edgeunet.bundle.manifest import MANIFEST_NAME, Flavour, InputSpec
from edgeunet.bundle.rknn import (
    RKNN_CARD_NAME,
    RKNN_NAME,
    SOCS,
    Computed,
    RknnCard,
    mean_and_std,
    read_rknn,
)
from edgeunet.bundle.schema import encode
from edgeunet.errors import UnknownNameError, UsageError, printable
from edgeunet.files import sha256, write_json
from edgeunet.runtime.backends.base import Backend, NetBackend
from edgeunet.runtime.backends.rknn import BytesNet
from edgeunet.runtime.frames import Batch

from ..npu.rknn_graph import rknn_graph
from ..npu.rknn_toolkit import VERSION, Layer, Toolkit
from .base import Deployment, Target

BUNDLE = "bundle"
DEFAULT_SOC = "rk3588"
_ADVICE = "Deploy another --flavour, or --to onnx."


def write(deployment: Deployment) -> None:
    """Compile the graph, simulate it on the golden frames, and copy the bundle with it.

    Raises:
        UnknownNameError: no such SoC. UsageError: see `check_input`, or a machine that the compiler
        does not run on. ExportError: the compiler fails, or cannot be installed. ParityError: other
        masks than the runtime's.
    """
    bundle, flavour = deployment.bundle, deployment.flavour
    soc = deployment.options.target or DEFAULT_SOC
    if soc not in SOCS:
        raise UnknownNameError("SoC", soc, SOCS)
    spec = bundle.manifest.input
    check_input(spec)
    precision = computed_in(flavour)
    with Toolkit(deployment.report, advice=_ADVICE) as toolkit:
        deployment.report(f"compiling for {soc}, and simulating the golden frames")
        path = deployment.folder / RKNN_NAME
        layers = _compile(toolkit, bundle, flavour, soc, path)
        card = card_of(layers, soc, precision, _outputs(bundle))
        with NetBackend(bundle, SimulatedNet(toolkit, bundle, card), name="simulated") as backend:
            deployment.prove(RKNN_NAME, lambda frames: _masks(backend, frames), flavour)
    deployment.report(f"{RKNN_NAME}: {described(card)}")
    deployment.copy_bundle(BUNDLE, flavour)
    _add_to(deployment.folder / BUNDLE, path, card)
    deployment.write_labels()
    mean, std = mean_and_std(spec)
    deployment.write_template(
        "rockchip/README.md",
        "README.md",
        model=bundle.manifest.model,
        card=card,
        placed=described(card),
        height=spec.height,
        width=spec.width,
        channels=spec.channels,
        mean=[f"{each:g}" for each in mean],
        std=[f"{each:g}" for each in std],
        logits=bundle.manifest.logits_size,
        classes=bundle.manifest.classes,
        gate=bundle.manifest.gate,
    )


def check_input(spec: InputSpec) -> None:
    """Refuse what cannot enter the NPU as bytes.

    Raises:
        UsageError: frames of another depth, images that are measured, or windows.

    Example:
        >>> from edgeunet.bundle.manifest import InputSpec
        >>> from edgeunet.exporting.deploy.rockchip import check_input
        >>> check_input(InputSpec(64, 96))
    """
    plain = "Use another target, such as onnx."
    if spec.window is not None:
        raise UsageError(
            f"the net sees {spec.window.describe()}; rockchip runs whole frames. {plain}"
        )
    if spec.statistics is not None:
        raise UsageError(
            f"images are normalised by the {spec.statistics.describe()} of each; a compiled net "
            f"has fixed numbers. {plain}"
        )
    if spec.depth != "uint8":
        raise UsageError(f"frames are {spec.depth}; the NPU takes bytes. {plain}")


def computed_in(flavour: Flavour) -> Computed:
    """The precision of a net that is compiled of a graph."""
    return "int8" if flavour == "int8.qnn" else "fp16"


def card_of(
    layers: Sequence[Layer], soc: str, precision: Computed, outputs: tuple[str, ...]
) -> RknnCard:
    """What rknn.json says of a compiled net."""
    inner = [layer for layer in layers if not layer.is_end]
    placed = Counter(f"{layer.type} on {layer.processor}" for layer in inner)
    return RknnCard(
        soc=soc,
        precision=precision,
        toolkit=VERSION,
        outputs=outputs,
        layers=dict(placed.most_common()),
        on_cpu=tuple(printable(layer.name) for layer in inner if layer.processor != "NPU"),
        cycles=sum(layer.cycles for layer in layers),
    )


def described(card: RknnCard) -> str:
    """Where the layers run, for people.

    Example:
        >>> from edgeunet.exporting.deploy.rockchip import card_of, described
        >>> from edgeunet.exporting.npu.rknn_toolkit import Layer
        >>> layers = [Layer("a", "Conv", "INT8", "NPU", 7)]
        >>> described(card_of(layers, "rk3588", "int8", ("logits",)))
        'rk3588, layers: 1 INT8 on NPU; none on the CPU'
    """
    placed = ", ".join(f"{count} {where}" for where, count in card.layers.items())
    return f"{card.soc}, layers: {placed}; {', '.join(card.on_cpu) or 'none'} on the CPU"


class SimulatedNet(BytesNet):
    """A net in the maker's simulator.

    Args:
        toolkit: has compiled it.
    """

    def __init__(self, toolkit: Toolkit, bundle: Bundle, card: RknnCard) -> None:
        super().__init__(bundle.manifest, card)
        self._toolkit = toolkit

    def run(self, frames: npt.NDArray[np.uint8]) -> list[npt.NDArray[Any]]:
        """See `BytesNet`."""
        return self._toolkit.run(frames)

    def close(self) -> None:
        """End the simulator."""
        self._toolkit.close()


def _compile(
    toolkit: Toolkit, bundle: Bundle, flavour: Flavour, soc: str, output: Path | None
) -> tuple[Layer, ...]:
    """Compile a graph of the bundle. FP16 is made of the FP32 graph, whose weights it rounds."""
    source = bundle.model_path(flavour if computed_in(flavour) == "int8" else "fp32")
    mean, std = mean_and_std(bundle.manifest.input)
    with tempfile.TemporaryDirectory(prefix="edgeunet-rknn-") as name:
        graph = Path(name, "net.onnx")
        onnx.save(rknn_graph(onnx.load_from_string(bundle.file(source).read())), graph)
        return toolkit.build(graph, soc=soc, mean=mean, std=std, output=output)


def _outputs(bundle: Bundle) -> tuple[str, ...]:
    graph = onnx.load_from_string(bundle.file(bundle.model_path("fp32")).read()).graph
    return tuple(output.name for output in graph.output)


def _add_to(folder: Path, path: Path, card: RknnCard) -> None:
    """Move a compiled net into the copy of a bundle, whose manifest then lists it."""
    path.rename(folder / RKNN_NAME)
    write_json(folder / RKNN_CARD_NAME, encode(card))
    manifest = open_bundle(folder).manifest
    added = {name: sha256(folder / name) for name in (RKNN_NAME, RKNN_CARD_NAME)}
    listed = replace(manifest, precision=card.precision, files={**manifest.files, **added})
    write_json(folder / MANIFEST_NAME, encode(listed))


def _masks(backend: Backend, frames: npt.NDArray[Any]) -> npt.NDArray[np.uint8]:
    return backend.segment(Batch.of(list(frames))).masks


def open_simulated(folder: Path, flavour: Flavour) -> NetBackend:
    """What was deployed, in the simulator: its graph is compiled again.

    Raises:
        BundleError: the compiled net or its card was changed. See also `Toolkit`.
    """
    bundle = open_bundle(folder / BUNDLE)
    card, _ = read_rknn(bundle)
    toolkit = Toolkit(lambda step: None, advice=_ADVICE)
    try:
        _compile(toolkit, bundle, flavour, card.soc, None)
    except BaseException:
        toolkit.close()
        raise
    net = SimulatedNet(toolkit, bundle, card)
    return NetBackend(bundle, net, name=f"rknn simulator {card.soc}")


TARGET = Target(
    name="rockchip",
    makes="a net for the NPU of a Rockchip SoC, in a copy of the bundle that checks itself there",
    needs="a board with an RK3562, RK3566, RK3568, RK3576 or RK3588; to deploy, Linux on x86-64, "
    "where it installs rknn-toolkit2 in an environment of its own",
    flavours=("int8.qnn", "fp16"),
    write=write,
    options=("target",),
    backend=open_simulated,
)
