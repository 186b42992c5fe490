"""Optional packages: the extra that installs each, and what needs it. Imports nothing heavy."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, distribution, version

SOURCE = "."
"""What pip installs edgeunet from: a checkout, until a release is on an index; then its name."""
WHERE = "in edgeunet's checkout" if SOURCE == "." else ""
"""Where pip must be called for that; "" for anywhere."""

_WITH_OPENCV = {
    "cpu",
    "executorch",
    "export",
    "litert",
    "mlflow",
    "ncnn",
    "openvino",
    "qnn",
    "quantize",
    "rknn",
    "tensorboard",
    "train",
    "video",
    "zoo",
}
_LIBRARIES_OF_NETS = {"bioimageio", "hf", "monai", "nnunet", "smp", "torchvision"}
_EXTRAS_WITH_OPENCV = _WITH_OPENCV | _LIBRARIES_OF_NETS  # [trt] has it on x86-64 only


@dataclass(frozen=True)
class Package:
    """An optional package.

    name: on the package index. module: what Python imports. extra: the smallest one that installs
    it. purpose: the commands that need it, and what for.
    """

    name: str
    module: str
    extra: str
    purpose: str

    def version(self) -> str | None:
        """The installed version; None if the package is missing."""
        try:
            return version(self.name)
        except PackageNotFoundError:
            # JetPack has an OpenCV of its own, which pip does not know by this name.
            return "installed" if importlib.util.find_spec(self.module) else None


PACKAGES = (
    Package("onnxruntime", "onnxruntime", "cpu", "run, bench, serve, export, parity: CPU bundles"),
    Package("opencv-python-headless", "cv2", "cpu", "all but lint and models: images"),
    Package("av", "av", "video", "run, serve: videos and cameras (rtsp, http, v4l2)"),
    Package("pycocotools", "pycocotools", "quantize", "data sets: polygons"),
    Package("jinja2", "jinja2", "quantize", "data, export, parity: reports as pages"),
    Package("pyyaml", "yaml", "quantize", "data sets of YOLO; export: bioimageio:, monai:"),
    Package("ray", "ray", "ray", "run: --workers"),
    Package("pyarrow", "pyarrow", "ray", "run: --workers, Parquet tables"),
    Package("fsspec", "fsspec", "ray", "run: --workers, addresses"),
    Package("starlette", "starlette", "serve", "serve"),
    Package("uvicorn", "uvicorn", "serve", "serve"),
    Package("websockets", "websockets", "serve", "serve"),
    Package("anyio", "anyio", "serve", "serve"),
    Package("h11", "h11", "serve", "serve"),
    Package("pillow", "PIL", "cpu", "all but lint and models: images"),
    Package("tifffile", "tifffile", "tiff", "all but lint and models: TIFFs of many channels"),
    Package("rosbags", "rosbags", "ros", "run, serve: bags of ROS"),
    Package("supervision", "supervision", "supervision", "results: to_supervision()"),
    Package(
        "openvino", "openvino", "openvino", "run, bench, serve: Intel's devices; deploy: openvino"
    ),
    Package("onnxruntime-qnn", "onnxruntime_qnn", "qnn", "run: --provider qnn; deploy: qualcomm"),
    Package("rknn-toolkit-lite2", "rknnlite", "rknn", "run, bench, serve: Rockchip's NPU"),
    Package("litert-torch", "litert_torch", "litert", "deploy: litert"),
    Package("ai-edge-litert", "ai_edge_litert", "litert", "deploy: litert"),
    Package("ai-edge-quantizer", "ai_edge_quantizer", "litert", "deploy: litert"),
    Package("executorch", "executorch", "executorch", "deploy: executorch"),
    Package("ncnn", "ncnn", "ncnn", "deploy: ncnn"),
    Package("pnnx", "pnnx", "ncnn", "deploy: ncnn"),
    Package("prometheus-client", "prometheus_client", "serve", "serve: /metrics"),
    Package("torch", "torch", "export", "export, parity, gate, models, train, prune: nets"),
    Package("safetensors", "safetensors", "export", "export, gate, models, train, prune: weights"),
    Package("onnx", "onnx", "quantize", "export, lint, prune: graphs"),
    Package("onnx-ir", "onnx_ir", "quantize", "export, lint, prune: graphs"),
    Package("tensorboard", "tensorboard", "tensorboard", "train: --log tensorboard"),
    Package("mlflow-skinny", "mlflow", "mlflow", "train: --log mlflow"),
    Package("torchmetrics", "torchmetrics", "train", "train, prune: a loss"),
    Package("torch-pruning", "torch_pruning", "train", "prune"),
    Package(
        "dynamic-network-architectures",
        "dynamic_network_architectures",
        "nnunet",
        "export: nnunet:FOLDER",
    ),
    Package("monai", "monai", "monai", "export: monai:NET, monai:BUNDLE"),
    Package(
        "segmentation-models-pytorch",
        "segmentation_models_pytorch",
        "smp",
        "export: smp:NET, smp:FOLDER",
    ),
    Package("timm", "timm", "zoo", "benchmarks: encoders of nets"),
    Package("torchvision", "torchvision", "torchvision", "export: torchvision:NET"),
    Package("transformers", "transformers", "hf", "export: hf:FOLDER"),
    Package("huggingface-hub", "huggingface_hub", "hub", "from_hub, push_to_hub"),
    Package("httpx2", "httpx2", "hub", "from_hub, push_to_hub"),
    Package("packaging", "packaging", "trt", "build, run on a GPU: TensorRT versions"),
    Package("pynvvideocodec", "PyNvVideoCodec", "nvdec", "run: --decoder nvdec"),
    Package("tensorrt-rtx-cu13-libs", "tensorrt_rtx_bindings", "rtx", "build: RTX engines"),
)
_BY_MODULE = {package.module: package for package in PACKAGES}


def is_installed(module: str) -> bool:
    """Whether Python can import a module, without importing it.

    A folder without code does not count, though Python imports it: one of that name in the working
    folder, or what a removed package left behind.

    Example:
        >>> from edgeunet.extras import is_installed
        >>> is_installed("json"), is_installed("no_such_module")
        (True, False)
    """
    found = importlib.util.find_spec(module)
    if found is None:
        return False
    return found.origin is not None or found.submodule_search_locations is None


def find_package(module: str) -> Package | None:
    """The optional package that a module belongs to; None if no extra installs it."""
    return _BY_MODULE.get(module.split(".")[0])


def requirement(extra: str) -> str:
    """What `pip install` is given for an extra, quoted for a shell.

    Example:
        >>> from edgeunet.extras import requirement
        >>> print("pip install", requirement("video"))
        pip install '.[video]'
    """
    return f"'{SOURCE}[{extra}]'"


def how_to_install(module: str, extra: str) -> str:
    """The command that installs an extra, or only the module's package.

    Only the package if the extra's OpenCV wheel would overwrite another OpenCV, such as JetPack's,
    and so remove its GStreamer.
    """
    if extra in _EXTRAS_WITH_OPENCV and _has_other_opencv():
        package = find_package(module)
        return f"pip install {package.name if package else module}"
    if extra == "quantize":  # most who lack it want to export a net in PyTorch
        command = f"pip install {requirement('export')}"
        return f"{command}, or {requirement('quantize')} for ONNX files alone"
    return f"pip install {requirement(extra)}"


def _has_other_opencv() -> bool:
    """Whether there is an OpenCV that is not pip's headless wheel."""
    if importlib.util.find_spec("cv2") is None:
        return False
    try:
        distribution("opencv-python-headless")
    except PackageNotFoundError:
        return True
    return False
