"""Target `ncnn`: a model of Tencent's ncnn, converted by pnnx and proved on ncnn's own runtime."""

from __future__ import annotations

import errno
import importlib.util
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnx_ir as ir
from onnx_ir.passes.common import RemoveUnusedNodesPass

from edgeunet.bundle.manifest import RGB, Flavour, InputSpec, Manifest
from edgeunet.data.normalise import scaling
from edgeunet.errors import ExportError, MissingDependencyError, UsageError, printable
from edgeunet.extras import is_installed, requirement
from edgeunet.files import write_json
from edgeunet.parity.pixels import MasksOf

from ..graphs.passes import DepthToSpaceToPixelShuffle
from ..graphs.passes.graph import save
from ..graphs.pixels.frames import read_planes
from ..graphs.pixels.geometry import Geometry, Nodes, resized
from .base import TEMPLATES, Deployment, Target

PARAM, WEIGHTS, ABOUT, PROGRAM = "model.ncnn.param", "model.ncnn.bin", "model.json", "segment.py"
_SECONDS = 600  # to convert; a net of 30 million weights takes ten
_REMEDY = "Use another target, such as onnx."
_UNKNOWN = re.compile(r"layer (\S+) not exists or registered")


def write(deployment: Deployment) -> None:
    """Convert the FP32 graph, write a program for it, and run that on the golden frames.

    Raises:
        UsageError: see `check_input`. MissingDependencyError: without ncnn and pnnx. ExportError:
        the graph has an operator that they lack. ParityError: other masks than the runtime's.
    """
    manifest, flavour, folder = deployment.bundle.manifest, deployment.flavour, deployment.folder
    check_input(manifest.input)
    converter = pnnx_program()
    graph = deployment.bundle.file(deployment.bundle.model_path("fp32")).read()
    model = to_logits(ir.from_proto(onnx.load_from_string(graph)), manifest)
    _convert(converter, model, flavour, folder)
    write_json(folder / ABOUT, about(manifest))
    shutil.copy(TEMPLATES / "ncnn" / PROGRAM, folder / PROGRAM)
    deployment.prove(PARAM, _runner(folder, flavour), flavour)
    deployment.write_page("ncnn/README.md", **_words(manifest.input))


def check_input(spec: InputSpec) -> None:
    """Refuse what the program does not do to frames.

    Raises:
        UsageError: images that are measured, cut into windows, or padded at the net's own size.
    """
    plain = "Use edgeunet's own runtime for this net"
    if spec.window is not None:
        raise UsageError(
            f"the net sees {spec.window.describe()}; ncnn's graphs see whole frames. {plain}."
        )
    if spec.statistics is not None:
        raise UsageError(
            f"images are normalised by the {spec.statistics.describe()} of each; ncnn has fixed "
            f"numbers. {plain}."
        )
    if spec.fitted_size(spec.height, spec.width) != (spec.height, spec.width):
        raise UsageError(
            f"frames of the net's size, {spec.height}x{spec.width}, are padded. Export with a "
            "--size of multiples of 8."
        )


def luma_inside(spec: InputSpec) -> bool:
    """Whether the graph computes gray of red, green and blue, as ncnn's own rounds otherwise."""
    return spec.channels == ("gray",) != spec.frame_channels


def mean_and_norm(spec: InputSpec) -> tuple[list[float], list[float]]:
    """What `substract_mean_normalize` takes: (value - mean) * norm; the graph does it for gray."""
    if luma_inside(spec):
        return [0.0] * len(spec.frame_channels), [1.0] * len(spec.frame_channels)
    gain, shift = (values.astype(np.float64) for values in scaling(spec))
    return (-shift / gain).astype(np.float32).tolist(), gain.tolist()


def about(manifest: Manifest) -> dict[str, object]:
    """What a program must know of the net."""
    spec = manifest.input
    mean, norm = mean_and_norm(spec)
    names = spec.frame_channels if luma_inside(spec) else spec.channels
    return {
        "model": manifest.model,
        "size": [spec.height, spec.width],
        "frame_channels": spec.frame_channels,
        "depth": spec.depth,
        "order": [spec.frame_channels.index(name) for name in names],
        "mean": mean,
        "norm": norm,
        "input": "in0",
        "outputs": {"logits": "out0"} | ({"presence": "out1"} if manifest.gate else {}),
        "classes": manifest.classes,
        "palette": manifest.palette,
        "gate": manifest.gate,
    }


def to_logits(model: ir.Model, manifest: Manifest) -> ir.Model:
    """The net's graph as pnnx takes it, with logits of the size of its input; it is returned.

    DepthToSpace is in the mode that ncnn has. What needs integers, gate and argmax, is left to the
    program.
    """
    DepthToSpaceToPixelShuffle()(model)
    graph, spec, nodes = model.graph, manifest.input, Nodes(model)
    (image,), (logits, *rest) = graph.inputs, graph.outputs
    size = np.array((spec.height, spec.width), np.int64)
    if luma_inside(spec):
        kind, channels = ir.TensorType(ir.DataType.FLOAT), len(spec.frame_channels)
        planes = ir.val("planes", type=kind, shape=ir.Shape(["batch", channels, *size.tolist()]))
        gray = read_planes(nodes, planes, image, spec, Geometry(size, size), folds=False)
        image.replace_all_uses_with(gray)
        graph.inputs[:] = [planes]
        graph.insert_before(graph[0], nodes.take())
    count, before = len(manifest.classes), np.array(manifest.logits_size)
    enlarged = resized(nodes, logits, before, size, channels=count)
    if enlarged is not logits:
        enlarged.type, enlarged.shape = logits.type, ir.Shape(["batch", count, *size.tolist()])
    graph.extend(nodes.take())
    graph.outputs[:] = [enlarged, *(rest if manifest.gate is not None else ())]
    RemoveUnusedNodesPass()(model)
    return model


def pnnx_program() -> Path:
    """The program of the package `pnnx`, which imports torch if it is imported."""
    for name in ("ncnn", "pnnx"):
        if not is_installed(name):
            raise MissingDependencyError(name)
    found = importlib.util.find_spec("pnnx")
    assert found is not None and found.origin is not None
    return Path(found.origin).with_name("pnnx.exe" if sys.platform == "win32" else "pnnx")


def _convert(converter: Path, model: ir.Model, flavour: Flavour, folder: Path) -> None:
    """Write `PARAM` and `WEIGHTS`; the rest of what pnnx writes is thrown away."""
    shape = [1, *(side for side in model.graph.inputs[0].shape or () if isinstance(side, int))]
    with tempfile.TemporaryDirectory(prefix="edgeunet-ncnn-") as name:
        place = Path(name)
        save(model, place / "net.onnx")
        said = _run(
            [
                str(converter),
                "net.onnx",
                f"inputshape=[{','.join(map(str, shape))}]",
                f"fp16={int(flavour == 'fp16')}",
                f"ncnnparam={PARAM}",
                f"ncnnbin={WEIGHTS}",
            ],
            place,
        )
        for file in (PARAM, WEIGHTS):
            if not (place / file).is_file():
                raise ExportError(
                    f"pnnx does not take the graph: {_end_of(said) or 'it says no reason.'} "
                    f"{_REMEDY}"
                )
            shutil.copy(place / file, folder / file)


def _runner(folder: Path, flavour: Flavour) -> MasksOf:
    """The program that was written, in a process of its own: a bad graph can end it."""
    if (folder / PROGRAM).read_bytes() != (TEMPLATES / "ncnn" / PROGRAM).read_bytes():
        raise UsageError(
            f"{folder / PROGRAM} is not the program that this edgeunet writes, so it is not run. "
            "Deploy the bundle again."
        )

    def run(frames: npt.NDArray[Any]) -> npt.NDArray[np.uint8]:
        masks = []
        for frame in frames:
            with tempfile.TemporaryDirectory(prefix="edgeunet-ncnn-") as name:
                place = Path(name)
                np.save(place / "frame.npy", frame)
                program = [sys.executable, "-B", str(folder.resolve() / PROGRAM)]
                said = _run([*program, "frame.npy", "mask.npy"], place)
                if not (place / "mask.npy").is_file():
                    raise ExportError(_refusal(said))
                masks.append(np.load(place / "mask.npy"))
        return np.stack(masks)

    return run


def _run(command: list[str], place: Path) -> str:
    """Run a program in a folder; the end of what it printed, and how it ended if not well."""
    try:
        ran = subprocess.run(  # noqa: S603
            command, cwd=place, capture_output=True, timeout=_SECONDS, check=False
        )
    except subprocess.TimeoutExpired:
        raise ExportError(
            f"{Path(command[0]).name} took more than {_SECONDS} s. {_REMEDY}"
        ) from None
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.EACCES, errno.ENOEXEC):
            raise ExportError(
                f"{command[0]} does not start: {error.strerror}. Install it again with: pip "
                "install --force-reinstall --no-deps pnnx."
            ) from None
        raise
    said = (ran.stdout + ran.stderr).decode("utf-8", "replace")
    return said if ran.returncode == 0 else f"{said}\nit ended with code {ran.returncode}."


def _refusal(said: str) -> str:
    """What ncnn says of a graph that it does not run."""
    unknown = sorted(set(_UNKNOWN.findall(said)))
    if unknown:
        named = printable(", ".join(unknown))
        return f"ncnn has no layer {named}, which pnnx made of the graph. {_REMEDY}"
    return f"ncnn does not run the graph: {_end_of(said)} {_REMEDY}"


def _end_of(said: str) -> str:
    """The last lines that a program printed, on one line."""
    return " ".join([printable(line) for line in said.splitlines() if line.strip()][-2:])


def _words(spec: InputSpec) -> dict[str, object]:
    """What the page says."""
    names = spec.frame_channels if luma_inside(spec) else spec.channels
    formats: dict[tuple[str, ...], str] = {RGB: "RGB", RGB[::-1]: "RGB2BGR"}
    mean, norm = ([str(np.float32(value)) for value in values] for values in mean_and_norm(spec))
    return {
        "param": PARAM,
        "weights": WEIGHTS,
        "about": ABOUT,
        "program": PROGRAM,
        "names": names,
        "mean": mean,
        "norm": norm,
        "pixel_format": formats.get(names) if spec.depth == "uint8" else None,
        "filter": spec.filter,
        "pads": spec.pads,
    }


TARGET = Target(
    name="ncnn",
    makes="a model of ncnn with FP32 or FP16 weights, and a Python program that runs it",
    needs="ncnn (`pip install ncnn`, or its C++ library); to deploy, "
    f"`pip install {requirement('ncnn')}`",
    flavours=("fp16", "fp32"),
    write=write,
    runner=_runner,
)
