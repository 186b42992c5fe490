"""`--model hf:FOLDER`: segmentation models that transformers saved, with their processor."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from edgeunet.data.fit import Frame
from edgeunet.errors import CheckpointError, MissingDependencyError, first_line, printable
from edgeunet.metrics import Mask
from edgeunet.models.weight_files import check_tensors, check_types, read_weight_file

from ..options import ExportOptions, class_names
from .base import card_of
from .folders import folder_of, read_object, refuse_options
from .hf_processor import check_same_image, image_of, input_of, open_processor, settings_of
from .module import ModuleOrigin, Segment

_CONFIG, _PROCESSOR, _WEIGHTS = "config.json", "preprocessor_config.json", "model.safetensors"

# Types of models, and of what they may be built on, whose code is transformers' own and traces.
_MODELS = {
    "beit": "BeitForSemanticSegmentation",
    "data2vec-vision": "Data2VecVisionForSemanticSegmentation",
    "dpt": "DPTForSemanticSegmentation",
    "mobilenet_v2": "MobileNetV2ForSemanticSegmentation",
    "mobilevit": "MobileViTForSemanticSegmentation",
    "segformer": "SegformerForSemanticSegmentation",
    "upernet": "UperNetForSemanticSegmentation",
}
_BACKBONES = ("beit", "bit", "convnext", "convnextv2", "dinov2", "resnet", "swin", "swinv2")

# How the net computes, not what. Some name code on a hub.
_LEFT_OUT = (
    "_attn_implementation", "_attn_implementation_internal", "attn_implementation",
    "_experts_implementation", "_name_or_path", "dtype", "torch_dtype", "transformers_version",
)  # fmt: skip
_REFUSED = {
    "auto_map": "names code of its own, which is never run",
    "quantization_config": "is quantized; pass the model that it was made of",
    "backbone": "names a backbone to be downloaded; expected its backbone_config",
}
_OTHER_FILES = {
    "adapter_config.json": "is an adapter of another model. Merge them: merge_and_unload()",
    "model.safetensors.index.json": "is split into several files. Save it as one: "
    "model.save_pretrained(folder, max_shard_size='100GB')",
    "pytorch_model.bin": "has its weights in a pickle, which can hold code. Load it where you "
    "trust it, and save it as safetensors: model.save_pretrained(folder)",
}
_SHOWN = 4


def open_hf(name: str, options: ExportOptions) -> ModuleOrigin:
    """A folder with config.json, preprocessor_config.json and model.safetensors.

    It is built from its configuration on the device "meta" and filled with the weights by
    transformers' own code, without a network. Masks of the origin are those of its processor, the
    net in FP32 and `post_process_semantic_segmentation`, at the frame's own size.

    Raises:
        UsageError: no such folder, options that it leaves no choice of, or frames whose size in the
            net depends on their own, without `options.size`.
        CheckpointError: a type that is not allowed, code of its own, or weights that do not fit.
        MissingDependencyError: transformers is not installed.
    """
    folder = folder_of(name, "hf", [_CONFIG, _PROCESSOR])
    refuse_options(options, f"{folder}'s {_CONFIG} or {_PROCESSOR}", but=["size"])
    for file, problem in _OTHER_FILES.items():
        if (folder / file).exists() and (file[0] == "a" or not (folder / _WEIGHTS).exists()):
            raise CheckpointError(f"{folder} {problem}.")
    settings = _checked(read_object(folder / _CONFIG), folder / _CONFIG)
    preparation = read_object(folder / _PROCESSOR)
    try:
        import transformers  # noqa: F401
    except ModuleNotFoundError:
        raise MissingDependencyError("transformers") from None
    with _quiet():
        net = _built(settings, folder)
        processor = open_processor(preparation, settings["model_type"], options.size)
        spec = input_of(settings_of(processor))
        check_same_image(processor, spec)
    classes, notes = _classes(net.config)
    names = class_names(options.classes) or classes
    card = card_of(f"hf:{settings['model_type']}", names, spec)
    origin = ModuleOrigin(
        net,
        card,
        segment=_segment(net, processor),
        weights=folder.absolute().name,
        title="transformers",
    )
    origin.packages = ("torch", "transformers", "pillow")
    if preparation.get("do_reduce_labels") or preparation.get("reduce_labels"):
        notes.append(
            "its masks count from the first class behind the background: id 0 is the data set's 1"
        )
    if options.size is not None:
        notes.append(f"frames are stretched to --size, in place of what {_PROCESSOR} says")
    if type(processor).__name__.endswith("Pil"):
        notes.append(
            f"frames are prepared as {type(processor).__name__} does, by Pillow; what transformers "
            "takes by default, torchvision, rounds some pixels otherwise"
        )
    origin.notes += notes
    return origin


def _checked(settings: dict[str, Any], path: Path) -> dict[str, Any]:
    """A configuration without what names code, the backbone's included.

    Raises:
        CheckpointError: a type that is not allowed, or something that is refused by name.
    """
    kind = settings.get("model_type")
    if kind not in _MODELS:
        raise CheckpointError(
            f"{path} is of model_type {printable(kind)}; expected one of {', '.join(_MODELS)}."
        )
    inner = settings.get("backbone_config")
    if isinstance(inner, dict):
        # DPT's hybrid of a ResNet and a ViT does not write its type.
        below = inner.get("model_type", "bit" if settings.get("is_hybrid") else None)
        if below not in _BACKBONES:
            raise CheckpointError(
                f"{path} has a backbone_config of model_type {printable(below)}; expected one of "
                f"{', '.join(_BACKBONES)}."
            )
        settings = settings | {"backbone_config": _without_code(inner, path)}
    return _without_code(settings, path)


def _without_code(settings: Mapping[str, Any], path: Path) -> dict[str, Any]:
    for key, problem in _REFUSED.items():
        if settings.get(key):
            raise CheckpointError(f"{path} {problem} ({key}).")
    return {key: value for key, value in settings.items() if key not in _LEFT_OUT}


def _built(settings: dict[str, Any], folder: Path) -> nn.Module:
    """The net with its weights, in FP32.

    Raises:
        CheckpointError: a configuration that transformers refuses, or weights that do not fit it.
    """
    import transformers

    path = folder / _WEIGHTS
    tensors = _tensors(path)
    made = getattr(transformers, _MODELS[settings["model_type"]])
    try:
        config = made.config_class.from_dict(settings)
        net, told = made.from_pretrained(
            None,
            config=config,
            state_dict=tensors,
            dtype=torch.float32,
            attn_implementation="eager",
            ignore_mismatched_sizes=True,  # they are refused below, by name
            output_loading_info=True,
        )
    except Exception as error:  # whatever a configuration makes its code raise
        raise CheckpointError(
            f"transformers {transformers.__version__} cannot build {folder}: {first_line(error)}"
        ) from None
    _check_keys(told, path)
    inner = getattr(config, "backbone_config", None)
    channels = getattr(inner or config, "num_channels", 3)
    if channels != 3:
        raise CheckpointError(
            f"{folder / _CONFIG} has num_channels {channels}; expected 3, as its processor makes."
        )
    built: nn.Module = net.eval()
    return built


def _tensors(path: Path) -> dict[str, Tensor]:
    tensors = {str(key): value for key, value in read_weight_file(path).items()}
    check_tensors(path, tensors)
    # Indices of attention windows are integers.
    check_types(path, {key: value for key, value in tensors.items() if value.dtype != torch.int64})
    return tensors


def _check_keys(told: Mapping[str, Any], path: Path) -> None:
    """CheckpointError that names the keys that the net lacks, does not know, or has otherwise."""
    counters = "num_batches_tracked"  # of batch normalisation, which only training needs
    missing = [key for key in told["missing_keys"] if not key.endswith(counters)]
    differing = [str(each[0]) for each in told["mismatched_keys"]]
    problems = [
        f"it {verb} {', '.join(map(printable, sorted(keys)[:_SHOWN]))}"
        + (f" and {len(keys) - _SHOWN} more" if len(keys) > _SHOWN else "")
        for verb, keys in (
            ("lacks", missing),
            ("has unknown", list(told["unexpected_keys"])),
            ("has other shapes in", differing),
        )
        if keys
    ]
    if problems:
        raise CheckpointError(f"{path} does not fit {_CONFIG} beside it: {'; '.join(problems)}.")


def _classes(config: Any) -> tuple[tuple[str, ...], list[str]]:
    """Names by channel, and what a user should know about them. The table may have holes."""
    names: dict[int, str] = {int(key): str(value) for key, value in config.id2label.items()}
    count = int(config.num_labels)
    unknown = sorted(set(names) - set(range(count)))
    notes = []
    if unknown:
        listed = ", ".join(f"{index} ({printable(names[index])})" for index in unknown[:_SHOWN])
        notes.append(f"id2label has holes: no channel belongs to {listed}")
    return tuple(names.get(index, f"class {index}") for index in range(count)), notes


def _segment(net: nn.Module, processor: Any) -> Segment:
    """The origin's own way from a frame to class ids."""

    @torch.inference_mode()
    def segment(frame: Frame) -> Mask:
        outputs = net(pixel_values=torch.from_numpy(image_of(processor, frame)))
        size = (frame.shape[0], frame.shape[1])
        (ids,) = processor.post_process_semantic_segmentation(outputs, target_sizes=[size])
        return np.asarray(ids.numpy(), np.uint8)

    return segment


@contextmanager
def _quiet() -> Iterator[None]:
    """Without transformers' bars and advice; what matters is raised."""
    from transformers.utils import logging as library

    logging: Any = library  # its functions have no types
    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()
