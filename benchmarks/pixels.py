"""How fast graphs from frames to masks are, and which other loaders take them.

    python benchmarks/pixels.py BUNDLE [--threads 2] [--seconds 20]
    python benchmarks/pixels.py BUNDLE --loaders

For FP32 and, if the bundle has it, INT8 on ONNX Runtime: milliseconds for a golden frame of the
net's size, of the net alone, of the net and the runtime's post-processing, of the runtime from
frame to mask, and of `model.*.pixels.onnx` for that size and for any. They run in turn, eight times
each after a pause: the threads of a session that has just run keep a core busy. At the end the
masks are compared.

`--loaders` opens the FP32 graph with what is installed of `openvino`, `openvino-model-api` (with
`onnx`) and `ultralytics`, prints what each reads in its metadata, and runs it where it can be run.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import click
import cv2
import numpy as np
import numpy.typing as npt

from edgeunet.bundle.bundle import Bundle, open_bundle
from edgeunet.bundle.manifest import Flavour
from edgeunet.data.resize import resize_frame
from edgeunet.doctor import environment
from edgeunet.exporting.graphs.pixels import PixelsForm, write_pixels
from edgeunet.runtime.backends.ort import OrtNet, open_flavour
from edgeunet.runtime.backends.postprocess import Postprocessor
from edgeunet.runtime.backends.preprocess import Preprocessor

RUNS = 8
PAUSE = 0.02  # seconds


def in_turn(cases: Mapping[str, Callable[[], object]], seconds: float) -> dict[str, list[float]]:
    """Milliseconds of each run of each case."""
    found: dict[str, list[float]] = {name: [] for name in cases}
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        for name, case in cases.items():
            time.sleep(PAUSE)
            case()
            case()
            for _ in range(RUNS):
                started = time.perf_counter()
                case()
                found[name].append(1e3 * (time.perf_counter() - started))
    return found


def measure(bundle: Bundle, flavour: Flavour, folder: Path, threads: int, seconds: float) -> None:
    """Print the table of one flavour."""
    spec, frame = bundle.manifest.input, fitted(bundle)
    graphs: dict[str, OrtNet] = {}
    for name, form in {"pixels": PixelsForm(), "pixels, any": PixelsForm(any_size=True)}.items():
        path = folder / f"{name}.onnx"
        write_pixels(bundle, flavour, path, form)
        graphs[name] = OrtNet(path, flavour=flavour, threads=threads)
    net = open_flavour(bundle, flavour, threads=threads).net
    prepare, finish = Preprocessor(spec), Postprocessor(spec, bundle.manifest.gate)
    image, size = prepare([frame]), (spec.height, spec.width)

    def masks() -> npt.NDArray[np.uint8]:
        return finish(*net.infer(prepare([frame])), size)

    cases: dict[str, Callable[[], object]] = {
        "net": lambda: net.infer(image),
        "net, post": lambda: finish(*net.infer(image), size),
        "pre, net, post": masks,
        **{name: lambda graph=graph: graph.run(frame[None]) for name, graph in graphs.items()},
    }
    found = in_turn(cases, seconds)
    base = float(np.median(found["net, post"]))
    click.echo(f"{flavour}, {threads} threads, {len(found['net'])} runs of {size[0]}x{size[1]}")
    for name, times in found.items():
        median, least = float(np.median(times)), min(times)
        click.echo(f"  {name:<16}{median:8.2f} ms  {median / base:6.3f}   least {least:8.2f}")
    for name, graph in graphs.items():
        share = float((graph.run(frame[None])[0] == masks()).mean())
        click.echo(f"  {name:<16}{share:.4%} of the pixels are the runtime's")


def fitted(bundle: Bundle) -> npt.NDArray[Any]:
    """A golden frame at the net's size."""
    spec = bundle.manifest.input
    return resize_frame(bundle.golden().frames[0], (spec.height, spec.width), spec.filter)


def try_loaders(bundle: Bundle, folder: Path) -> None:
    """Print a line for each loader."""
    path, frame = folder / "pixels.onnx", fitted(bundle)
    write_pixels(bundle, "fp32", path)
    (expected,) = OrtNet(path).run(frame[None])[:1]
    loaders: dict[str, Callable[[Path, npt.NDArray[Any]], tuple[str, Any]]] = {
        "openvino": _openvino,
        "Model API": _model_api,
        "ultralytics": _ultralytics,
    }
    for name, load in loaders.items():
        try:
            read, masks = load(path, frame)
        except Exception as error:  # theirs; what it says is what is measured
            click.echo(f"{name}: {type(error).__name__}: {str(error).splitlines()[0]}")
            continue
        same = "" if masks is None else f"; {float((masks == expected).mean()):.4%} of the pixels"
        click.echo(f"{name}: {read}{same}")


def _openvino(path: Path, frame: npt.NDArray[Any]) -> tuple[str, Any]:
    from edgeunet.runtime.backends.openvino_library import openvino_core

    result = openvino_core().compile_model(str(path), "CPU")(frame[None])
    return version("openvino"), result["masks"]


def _model_api(path: Path, frame: npt.NDArray[Any]) -> tuple[str, Any]:
    from model_api.models import Model

    model = Model.create_model(str(path))
    read = f"{type(model).__name__}, labels {model.params.labels}, {model.params.resize_type}"
    bgr = np.ascontiguousarray(frame[..., ::-1])
    inputs, _ = model.base_preprocess(bgr)
    masks = model.infer_sync(inputs)["masks"]
    try:
        model(bgr)
    except Exception as error:  # as above
        read += f"; its post-processing fails: {error}"
    return read, masks


def _ultralytics(path: Path, frame: npt.NDArray[Any]) -> tuple[str, Any]:
    from ultralytics.nn.backends import ONNXBackend

    backend = ONNXBackend(str(path), "cpu")
    read = f"names {backend.names}, task {backend.task}, imgsz {backend.imgsz}"
    return f"{read}, stride {backend.stride}; it feeds float planes, so it cannot run it", None


@click.command(help=__doc__)
@click.argument("bundle", type=click.Path(path_type=Path))
@click.option("--threads", default=2)
@click.option("--seconds", default=20.0, help="For each flavour.")
@click.option("--loaders", is_flag=True)
def main(bundle: Path, threads: int, seconds: float, loaders: bool) -> None:
    """See the module."""
    opened = open_bundle(bundle)
    click.echo(environment())
    cv2.setNumThreads(threads)
    with tempfile.TemporaryDirectory() as folder:
        if loaders:
            try_loaders(opened, Path(folder))
            return
        for flavour in ("int8.cpu", "fp32"):
            if flavour in opened.manifest.flavours:
                measure(opened, flavour, Path(folder), threads, seconds)


if __name__ == "__main__":
    main()
