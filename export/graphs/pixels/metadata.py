"""What other tools read in the metadata of an ONNX file.

| key | reader |
|---|---|
| `edgeunet_manifest`, `edgeunet_pixels` | whoever wants all: the manifest without hashes, \
and what `frames` are |
| `model_info model_type`, `labels`, … | OpenVINO's Model API, `model_api/models` and \
`adapters/utils.py` (`load_parameters_from_onnx`) |
| `names`, `task`, `imgsz`, `stride`, … | ultralytics, `nn/backends/base.py` (`apply_metadata`) |
| `model_type`, `class_names`, `tile_size`, … | QGIS's Deepness, \
`deepness/processing/models/model_base.py` |
"""

from __future__ import annotations

import json
import math

from edgeunet.bundle.manifest import RGB, Flavour, InputSpec, Manifest
from edgeunet.bundle.schema import encode
from edgeunet.errors import printable

_RESIZE_TYPES = {
    "stretch": "standard",
    "pad": "fit_to_window",
    "pad_centre": "fit_to_window_letterbox",
}
_OF_FILES = ("files", "depths")  # their hashes cannot be in one of the files


def metadata_of(
    manifest: Manifest, flavour: Flavour, *, any_size: bool, confidence: bool
) -> dict[str, str]:
    """All keys with their values, without control characters: tools print them, or write XML.

    Example:
        >>> from edgeunet.exporting.graphs.pixels.metadata import metadata_of
        >>> from edgeunet.runtime import open_bundle
        >>> manifest = open_bundle(bundle).manifest
        >>> metadata_of(manifest, "fp32", any_size=False, confidence=False)["task"]
        'semantic'
    """
    spec = manifest.input
    kept = {key: value for key, value in encode(manifest).items() if key not in _OF_FILES}
    pixels = {
        "flavour": flavour,
        "frames": {
            "layout": "NHWC",
            "channels": spec.frame_channels,
            "depth": spec.depth,
            "size": None if any_size else (spec.height, spec.width),
        },
        "confidence": confidence,
    }
    values = {
        "edgeunet_manifest": json.dumps(kept),
        "edgeunet_pixels": json.dumps(pixels),
        **_model_api(manifest),
        **_ultralytics(manifest, any_size=any_size),
        **_deepness(manifest),
    }
    return {key: printable(value) for key, value in values.items()}


def _model_api(manifest: Manifest) -> dict[str, str]:
    """Keys have two words. Lists are separated by spaces, so that names must not have any."""
    spec = manifest.input
    values = {
        "model_type": "Segmentation",
        "labels": " ".join("_".join(name.split()) or "_" for name in manifest.classes),
        "resize_type": _RESIZE_TYPES[spec.resize],
        "pad_value": str(round(_fill(spec))),
        # Its callers read images by OpenCV, in BGR.
        "reverse_input_channels": str(spec.frame_channels == RGB),
        # The graph does these itself.
        "mean_values": " ".join("0" for _ in spec.frame_channels),
        "scale_values": " ".join("1" for _ in spec.frame_channels),
        "blur_strength": "-1",
    }
    return {f"model_info {key}": value for key, value in values.items()}


def _fill(spec: InputSpec) -> float:
    """Raw value of padding, the mean of the channels if each has its own."""
    low, high = spec.levels
    mean = sum(spec.mean) / len(spec.mean)
    return low + mean * (high - low) if spec.fill is None else spec.fill


def _ultralytics(manifest: Manifest, *, any_size: bool) -> dict[str, str]:
    """Python literals. Sizes that are no multiple of the stride would be rounded up."""
    spec = manifest.input
    return {
        "description": f"{manifest.model} ({manifest.weights})",
        "task": "semantic",
        "names": repr(dict(enumerate(manifest.classes))),
        "imgsz": repr([spec.height, spec.width]),
        "stride": str(math.gcd(spec.height, spec.width, 32)),
        "batch": str(manifest.max_batch),
        "channels": str(len(spec.frame_channels)),
        "args": repr({"dynamic": any_size}),
    }


def _deepness(manifest: Manifest) -> dict[str, str]:
    """JSON values. Tiles are square."""
    spec = manifest.input
    names = {str(index): name for index, name in enumerate(manifest.classes)}
    values: dict[str, object] = {"model_type": "Segmentor", "class_names": names}
    if spec.height == spec.width:
        values["tile_size"] = spec.height
    return {key: json.dumps(value) for key, value in values.items()}
