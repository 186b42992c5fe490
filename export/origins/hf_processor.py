"""preprocessor_config.json of Hugging Face: how its processor makes an image of a frame."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from edgeunet.bundle.manifest import RGB, Filter, InputSpec
from edgeunet.errors import CheckpointError, ExportError, UsageError, first_line, printable
from edgeunet.parity import plain

Size = tuple[int, int]
"""Height and width, pixels."""

# Processors whose steps `input_of` knows, and the one of a model whose file names none.
_PROCESSORS = {
    "segformer": "SegformerImageProcessor",
    "upernet": "SegformerImageProcessor",
    "dpt": "DPTImageProcessor",
    "beit": "BeitImageProcessor",
    "data2vec-vision": "BeitImageProcessor",
    "mobilevit": "MobileViTImageProcessor",
    "mobilenet_v2": "MobileNetV2ImageProcessor",
}
_CROPPING = ("BeitImageProcessor", "MobileViTImageProcessor", "MobileNetV2ImageProcessor")
_FLIPPING = "MobileViTImageProcessor"  # which never normalises either

# Pillow's numbers.
_FILTERS: dict[int, Filter] = {2: "pillow", 3: "pillow_bicubic"}
_OTHER_FILTERS = {0: "nearest", 1: "Lanczos", 4: "box", 5: "Hamming"}
_SETTINGS = (
    "do_resize", "size", "resample", "do_center_crop", "do_rescale", "rescale_factor",
    "do_normalize", "image_mean", "image_std", "do_pad", "pad_size", "size_divisor",
    "keep_aspect_ratio", "ensure_multiple_of", "do_flip_channel_order",
)  # fmt: skip
_SIDES = ("height", "width", "shortest_edge", "longest_edge", "max_height", "max_width")
_CLOSE = 1e-3
"""Largest difference of our image and the processor's. A level of a byte is 4e-3 or more."""


def processor_name(settings: Mapping[str, Any], model_type: str) -> str:
    """The class that makes images, without what says how it computes (`Fast`, `Pil`).

    Raises:
        CheckpointError: another one than those of segmentation models.

    Example:
        >>> from edgeunet.exporting.origins.hf_processor import processor_name
        >>> processor_name({"feature_extractor_type": "SegformerFeatureExtractor"}, "segformer")
        'SegformerImageProcessor'
    """
    told = settings.get("image_processor_type") or settings.get("feature_extractor_type")
    if told is None:
        return _PROCESSORS[model_type]
    name = str(told).replace("FeatureExtractor", "ImageProcessor")
    name = name.removesuffix("Fast").removesuffix("Pil")
    if name not in _PROCESSORS.values():
        known = ", ".join(sorted(set(_PROCESSORS.values())))
        raise CheckpointError(
            f"preprocessor_config.json names {printable(told)}; expected one of {known}."
        )
    return name


def open_processor(settings: dict[str, Any], model_type: str, size: Size | None) -> Any:
    """The processor itself, on Pillow; with `size` it stretches frames to that.

    Raises:
        CheckpointError: settings that it does not take, or see `processor_name`.
    """
    import transformers  # slow to import, and not always there

    name = processor_name(settings, model_type)
    # Since transformers 5 the plain name is torchvision's, before it was Pillow's.
    chosen = getattr(transformers, f"{name}Pil", None) or getattr(transformers, name)
    if size is not None:
        settings = settings | {
            "do_resize": True,
            "size": {"height": size[0], "width": size[1]},
            "do_center_crop": False,
            "do_pad": False,
        }
        if name == "DPTImageProcessor":
            settings |= {"keep_aspect_ratio": False, "ensure_multiple_of": 1}
    try:
        return chosen.from_dict(settings)
    except Exception as error:  # whatever its checks raise
        raise CheckpointError(
            f"preprocessor_config.json does not fit {name}: {first_line(error)}"
        ) from None


def settings_of(processor: Any) -> dict[str, Any]:
    """What a processor does, its own defaults among it, as plain values."""
    settings = {name: getattr(processor, name, None) for name in _SETTINGS}
    size = settings["size"] or {}
    sides = {
        name: size.get(name) if isinstance(size, Mapping) else getattr(size, name, None)
        for name in _SIDES
    }
    settings["size"] = {name: side for name, side in sides.items() if side}
    name = type(processor).__name__.removesuffix("Pil")
    settings["do_center_crop"] = settings["do_center_crop"] and name in _CROPPING
    settings["do_flip_channel_order"] = settings["do_flip_channel_order"] and name == _FLIPPING
    settings["do_normalize"] = settings["do_normalize"] and name != _FLIPPING
    return settings


def input_of(settings: Mapping[str, Any]) -> InputSpec:
    """The input of a net whose images a processor with these settings makes.

    Raises:
        UsageError: images whose size depends on the frame's, or parts of frames.
        CheckpointError: a filter or numbers that no input has.

    Example:
        >>> from edgeunet.exporting.origins.hf_processor import input_of
        >>> settings = {"do_resize": True, "size": {"height": 32, "width": 48}, "resample": 3}
        >>> input_of(settings).filter
        'pillow_bicubic'
    """
    height, width = _size(settings)
    resample = int(settings.get("resample") or 0)
    if resample not in _FILTERS:
        name = _OTHER_FILTERS.get(resample, str(resample))
        raise CheckpointError(
            f"preprocessor_config.json resizes with resample {resample} ({name}); expected 2 "
            "(bilinear) or 3 (bicubic)."
        )
    factor = float(settings["rescale_factor"]) if settings.get("do_rescale") else 1.0
    gain = 255 * factor
    if not 0 < gain < math.inf:  # NaN too
        raise CheckpointError(
            f"preprocessor_config.json has rescale_factor {factor}; expected a positive number."
        )
    if math.isclose(gain, 1, rel_tol=1e-6):
        gain = 1.0  # 0.00392156862745098 is 1/255
    normalises = settings.get("do_normalize")
    mean = _three(settings, "image_mean") if normalises else (0.0,) * 3
    std = _three(settings, "image_std") if normalises else (1.0,) * 3
    try:
        return InputSpec(
            height,
            width,
            channels=RGB[::-1] if settings.get("do_flip_channel_order") else RGB,
            filter=_FILTERS[resample],
            mean=tuple(value / gain for value in mean),
            std=tuple(value / gain for value in std),
        )
    except ValueError as error:
        raise CheckpointError(f"preprocessor_config.json: {error}.") from None


def _size(settings: Mapping[str, Any]) -> Size:
    """The size that all frames are stretched to."""
    size = settings.get("size") or {}
    height, width = size.get("height"), size.get("width")
    problem = ""
    if not settings.get("do_resize"):
        problem = "does not resize frames (do_resize is false)"
    elif height is None or width is None:
        problem = f"resizes by {' and '.join(size) or 'nothing'}, so that sizes differ"
    elif settings.get("do_center_crop"):
        problem = "cuts out the centre of frames (do_center_crop)"
    elif settings.get("keep_aspect_ratio"):
        problem = "keeps the aspect ratio (keep_aspect_ratio), so that sizes differ"
    elif settings.get("do_pad") and (settings.get("pad_size") or settings.get("size_divisor")):
        problem = "pads images (do_pad)"
    if problem:
        raise UsageError(
            f"preprocessor_config.json {problem}; a bundle stretches whole frames to one size. "
            "Pass --size HxW to do so."
        )
    if not (isinstance(height, int) and isinstance(width, int)):
        raise CheckpointError(
            f"preprocessor_config.json has size {printable(size)}; expected whole pixels."
        )
    step = int(settings.get("ensure_multiple_of") or 1)
    return round(height / step) * step, round(width / step) * step


def _three(settings: Mapping[str, Any], name: str) -> tuple[float, ...]:
    """A value for each channel, in the net's order; one for all is repeated."""
    given = settings.get(name)
    values: list[Any] = list(given) if isinstance(given, (list, tuple)) else [given] * 3
    if len(values) != 3 or not all(isinstance(value, (int, float)) for value in values):
        raise CheckpointError(
            f"preprocessor_config.json has {name} {printable(given)}; expected three numbers."
        )
    return tuple(float(value) for value in values)


def check_same_image(processor: Any, spec: InputSpec) -> None:
    """Refuse a processor that does more than `input_of` understood, on frames of noise.

    Raises:
        ExportError: its image of a frame is another one than ours.
    """
    generator = np.random.default_rng(0)
    for height, width in ((spec.height, spec.width), (spec.height * 2 + 3, spec.width + 5)):
        frame = generator.integers(0, 256, (height, width, 3), np.uint8)
        ours = plain.to_input(frame, spec)
        theirs = image_of(processor, frame)
        if theirs.shape != ours.shape:
            difference = f"has shape {theirs.shape} instead of {ours.shape}"
        elif not (largest := float(np.abs(theirs - ours).max())) <= _CLOSE:
            difference = f"differs by {largest:.2g}"
        else:
            continue
        raise ExportError(
            f"{type(processor).__name__} prepares frames in a way that a bundle cannot: its image "
            f"{difference}. Pass --size HxW if frames are cut or padded."
        )


def image_of(processor: Any, frame: Any) -> Any:
    """A frame (H, W, 3) of bytes as the processor's image (1, 3, h, w), FP32."""
    made = processor(images=frame, return_tensors="np", input_data_format="channels_last")
    return np.asarray(made["pixel_values"], np.float32)
