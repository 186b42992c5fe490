"""How each peer converts a graph and runs it; `peers.py` says which there are.

Each `convert` takes the FP32 graph, frames to calibrate with (N, C, H, W) and an empty folder, and
returns the path of its model in it. Each `open` loads one on so many threads, 0 for all cores.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ..doctor import cores
from ..runtime.backends.openvino_library import load_openvino, openvino_core

Images = npt.NDArray[np.float32]
Run = Callable[[Images], Sequence[npt.NDArray[np.float32]]]
"""The net's input (N, C, H, W) -> logits and, if the net has a gate, presence."""


@dataclass(frozen=True)
class Made:
    """What a peer made of a net, ready to be opened.

    path: its model. shape: of the input that it is opened for, (N, C, H, W). outputs: how many of
    the graph's outputs count, logits first.
    """

    path: Path
    shape: tuple[int, int, int, int]
    outputs: int = 1


def _run_program(*command: str, folder: Path) -> str:
    """What a converter said; RuntimeError with the end of it if it failed."""
    ran = subprocess.run(  # noqa: S603
        command, cwd=folder, capture_output=True, text=True, errors="replace", check=False
    )
    said = ran.stdout + ran.stderr
    if ran.returncode:
        last = [line for line in said.splitlines() if line.strip()][-1:]
        raise RuntimeError(f"{' '.join(last)} (code {ran.returncode})")
    return said


# ONNX Runtime's own quantizer


def convert_ort(graph: Path, images: Images, folder: Path) -> Path:
    """`quantize_static` at its defaults, Q/DQ, after the preparation that its manual asks for."""
    from onnxruntime.quantization import CalibrationDataReader, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    class Reader(CalibrationDataReader):  # type: ignore[misc]  # untyped
        def __init__(self) -> None:
            self._images = iter(images)

        def get_next(self) -> dict[str, Images] | None:
            image = next(self._images, None)
            return None if image is None else {"image": image[None]}

    path, prepared = folder / "quantized.onnx", folder / "prepared.onnx"
    # Symbolic shapes fail on Resize; those that ONNX infers are enough.
    quant_pre_process(str(graph), str(prepared), skip_symbolic_shape=True)
    quantize_static(str(prepared), str(path), Reader())
    return path


def open_ort(made: Made, threads: int) -> Run:
    """A graph on ONNX Runtime as its users open it."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(
        str(made.path), options, providers=["CPUExecutionProvider"]
    )
    names = [value.name for value in session.get_outputs()][: made.outputs]
    return lambda images: session.run(names, {"image": images})


# NNCF on OpenVINO


def convert_nncf(graph: Path, images: Images, folder: Path) -> Path:
    """`nncf.quantize` at its defaults, on all frames."""
    import logging

    openvino = load_openvino()  # before NNCF, which would import it with its telemetry
    import nncf

    path = folder / "nncf.xml"
    logging.getLogger("nncf").setLevel(logging.ERROR)
    model = openvino_core().read_model(graph)
    frames = nncf.Dataset([image[None] for image in images])
    quantized = nncf.quantize(model, frames, subset_size=len(images))
    openvino.save_model(quantized, path, compress_to_fp16=False)
    return path


def open_openvino(made: Made, threads: int, **settings: str) -> Run:
    """A model on OpenVINO's CPU, for latency and a fixed shape, which is its fastest way."""
    core = openvino_core()
    model = core.read_model(made.path)
    model.reshape({model.inputs[0]: list(made.shape)})
    hints: dict[str, Any] = {"PERFORMANCE_HINT": "LATENCY", **settings}
    if threads:
        hints["INFERENCE_NUM_THREADS"] = threads
    request = core.compile_model(model, "CPU", hints).create_infer_request()

    def run(images: Images) -> list[npt.NDArray[np.float32]]:
        found = request.infer([images], share_inputs=True, share_outputs=True)
        return [found[index] for index in range(made.outputs)]

    return run


# ncnn


def convert_ncnn(graph: Path, images: Images, folder: Path) -> Path:
    """By pnnx, in FP32."""
    from edgeunet.exporting.deploy.ncnn import pnnx_program
    from edgeunet.exporting.graphs.passes import DepthToSpaceToPixelShuffle
    from edgeunet.exporting.graphs.passes.graph import load, save

    path = folder / "net.ncnn.param"
    model = load(graph)
    DepthToSpaceToPixelShuffle()(model)  # ncnn has one of the two modes
    save(model, folder / "net.onnx")
    shape = f"inputshape=[{','.join(map(str, (1, *images.shape[1:])))}]"
    _run_program(str(pnnx_program()), "net.onnx", shape, "fp16=0", folder=folder)
    return path


def open_ncnn(made: Made, threads: int) -> Run:
    """Frame after frame: ncnn has no batches."""
    import ncnn

    net = ncnn.Net()
    if threads:
        net.opt.num_threads = threads
    if net.load_param(str(made.path)) or net.load_model(str(made.path.with_suffix(".bin"))):
        raise RuntimeError(f"{made.path.name} is refused")

    def run(images: Images) -> list[npt.NDArray[np.float32]]:
        rows = []
        for image in images:
            extractor = net.create_extractor()
            extractor.input("in0", ncnn.Mat(image))
            rows.append([np.array(extractor.extract(f"out{i}")[1]) for i in range(made.outputs)])
        return [np.stack(each) for each in zip(*rows, strict=True)]

    return run


# MNN


def convert_mnn(graph: Path, images: Images, folder: Path) -> Path:
    """By MNN's converter, in FP32."""
    path = folder / "net.mnn"
    # What the program `mnnconvert` calls; that one also sends statistics home.
    code = "import sys, _tools; sys.exit(not _tools.mnnconvert(sys.argv))"
    wanted = ("-f", "ONNX", "--modelFile", str(graph), "--MNNModel", path.name)
    _run_program(sys.executable, "-c", code, *wanted, "--bizCode", "net", folder=folder)
    return path


def open_mnn(made: Made, threads: int) -> Run:
    """A module on MNN's CPU backend."""
    from MNN import expr, nn

    settings = {"backend": "CPU", "numThread": threads or cores()}
    names = ["logits", "presence"][: made.outputs]
    net = nn.load_module_from_file(
        str(made.path), ["image"], names, runtime_manager=nn.create_runtime_manager((settings,))
    )

    def run(images: Images) -> list[npt.NDArray[np.float32]]:
        image = expr.placeholder(list(images.shape), expr.NCHW, expr.float)
        image.write(images)
        return [np.array(expr.convert(each, expr.NCHW).read()) for each in net.onForward([image])]

    return run


# LiteRT and ExecuTorch: of the graph as a module of PyTorch, for a batch of one


def _module(graph: Path, images: Images) -> tuple[Any, Any]:
    """The graph as a module, and an example of its input."""
    import onnx
    import torch

    from edgeunet.exporting.graphs.torch_module import TorchGraph

    return TorchGraph(onnx.load(graph)).eval(), torch.zeros(1, *images.shape[1:])


def convert_litert(graph: Path, images: Images, folder: Path) -> Path:
    """By litert-torch, in FP32."""
    import litert_torch
    import torch

    path = folder / "net.tflite"
    module, example = _module(graph, images)
    with torch.no_grad():
        litert_torch.convert(module, sample_kwargs={"frames": example}).export(str(path))
    return path


def open_litert(made: Made, threads: int) -> Run:
    """By XNNPACK, frame after frame: the model has a batch of 1."""
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_path=str(made.path), num_threads=threads or cores())
    signature = interpreter.get_signature_runner()
    names = ["logits", "presence"][: made.outputs]

    def run(images: Images) -> list[npt.NDArray[np.float32]]:
        found = [signature(frames=image[None]) for image in images]
        return [np.concatenate([each[name] for each in found]) for name in names]

    return run


def convert_executorch(graph: Path, images: Images, folder: Path) -> Path:
    """By its exporter, for XNNPACK, in FP32."""
    from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
    from executorch.exir import to_edge_transform_and_lower
    from torch.export import export

    path = folder / "net.pte"
    module, example = _module(graph, images)
    program = export(module, (example,))
    lowered = to_edge_transform_and_lower(program, partitioner=[XnnpackPartitioner()])
    path.write_bytes(lowered.to_executorch().buffer)
    return path


def open_executorch(made: Made, threads: int) -> Run:
    """By XNNPACK, frame after frame: the program has a batch of 1."""
    import torch
    from executorch.extension.pybindings import portable_lib
    from executorch.runtime import Runtime

    if threads:
        portable_lib._unsafe_reset_threadpool(threads)
    method = Runtime.get().load_program(made.path).load_method("forward")

    def run(images: Images) -> list[npt.NDArray[np.float32]]:
        found = [method.execute([torch.from_numpy(image[None])]) for image in images]
        return [
            np.concatenate([each[index].numpy() for each in found]) for index in range(made.outputs)
        ]

    return run
